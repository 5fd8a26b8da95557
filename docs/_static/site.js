// A formula that is wider than its box scrolls; the keyboard must reach it too.
addEventListener("load", async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    for (const box of document.querySelectorAll(".math, mjx-container"))
        if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto")
            box.tabIndex = 0;
});
