"""Which builds of the kernels this processor and its operating system can run.

Built without any instruction-set flag and imported first: importing a module compiled for a
wider processor is already enough to crash.
"""

# A level is usable only with *all* of its features, since the compiler may emit any of them,
# and with the register state that the operating system saves.  The bits are read by cpuid and
# not by __builtin_cpu_supports, whose names differ between compilers and leave out lzcnt, movbe
# and f16c on older ones; so gcc, clang and MSVC share one table.
cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #if defined(_MSC_VER) && !defined(__clang__)
    #include <intrin.h>
    static void fx_cpuid(unsigned leaf, unsigned r[4]) { __cpuidex((int *)r, (int)leaf, 0); }
    static unsigned fx_xcr0(void) { return (unsigned)_xgetbv(0); }
    #else
    #include <cpuid.h>
    static void fx_cpuid(unsigned leaf, unsigned r[4]) {
        __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]);
    }
    static unsigned fx_xcr0(void) {
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return low;
    }
    #endif

    #define FX_BIT(n) (1u << (n))

    /* The x86-64 psABI level: 1 to 4. */
    static int fx_level(void) {
        /* sse3 ssse3 cx16 sse4.1 sse4.2 popcnt */
        const unsigned v2_ecx1 = FX_BIT(0) | FX_BIT(9) | FX_BIT(13) | FX_BIT(19) | FX_BIT(20)
                               | FX_BIT(23);
        const unsigned v2_ext = FX_BIT(0); /* lahf */
        /* fma movbe osxsave avx f16c */
        const unsigned v3_ecx1 = FX_BIT(12) | FX_BIT(22) | FX_BIT(27) | FX_BIT(28) | FX_BIT(29);
        const unsigned v3_ebx7 = FX_BIT(3) | FX_BIT(5) | FX_BIT(8); /* bmi1 avx2 bmi2 */
        const unsigned v3_ext = FX_BIT(5); /* lzcnt */
        /* avx512: f dq cd bw vl */
        const unsigned v4_ebx7 = FX_BIT(16) | FX_BIT(17) | FX_BIT(28) | FX_BIT(30) | FX_BIT(31);
        const unsigned ymm_state = 0x06, zmm_state = 0xe6;
        unsigned r[4], ecx1, ebx7 = 0, ext = 0, xcr0 = 0;

        fx_cpuid(0, r);
        const unsigned last = r[0];
        fx_cpuid(1, r);
        ecx1 = r[2];
        if (last >= 7) {
            fx_cpuid(7, r);
            ebx7 = r[1];
        }
        fx_cpuid(0x80000000u, r);
        if (r[0] >= 0x80000001u) {
            fx_cpuid(0x80000001u, r);
            ext = r[2];
        }
        if (ecx1 & FX_BIT(27)) /* osxsave: xgetbv is allowed */
            xcr0 = fx_xcr0();

        if ((ecx1 & v2_ecx1) != v2_ecx1 || (ext & v2_ext) != v2_ext)
            return 1;
        if ((ecx1 & v3_ecx1) != v3_ecx1 || (ebx7 & v3_ebx7) != v3_ebx7
                || (ext & v3_ext) != v3_ext || (xcr0 & ymm_state) != ymm_state)
            return 2;
        if ((ebx7 & v4_ebx7) != v4_ebx7 || (xcr0 & zmm_state) != zmm_state)
            return 3;
        return 4;
    }
    #else
    static int fx_level(void) { return 2; } /* one build, made for this architecture */
    #endif
    """
    int fx_level()


def supported():
    """Return the names of the builds that can run here, best first."""
    level = fx_level()
    names = (("v4", 4), ("v3", 3), ("baseline", 2))
    return [name for name, needed in names if level >= needed]
