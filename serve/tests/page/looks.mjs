// How the page looks and is moved through: contrast in light and dark, a phone's width, the order of the focus.

/** In the page: texts and edges whose contrast is below WCAG 2.2's AA (1.4.3 and 1.4.11). */
const CONTRAST = `
    const parse = (css) => {
        const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    // Relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    const light = (rgb) => {
        const [r, g, b] = rgb.map((v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
        const [dark, bright] = [light(a), light(b)].sort((x, y) => x - y);
        return (bright + 0.05) / (dark + 0.05);
    };
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour[3] === 1) return colour.slice(0, 3);
        }
        return [255, 255, 255];
    };
    const seen = [], low = [];
    const judge = (what, colour, under, least) => {
        const found = ratio(parse(colour).slice(0, 3), under);
        seen.push(found);
        if (found < least) low.push(what + " " + found.toFixed(2));
    };
    for (const node of document.body.querySelectorAll("*")) {
        if (!node.checkVisibility({ visibilityProperty: true }) || node.closest(".unseen")) continue;
        const style = getComputedStyle(node), name = node.localName + "#" + node.id + "." + node.className;
        const field = node.matches("input, textarea, select");
        const text = field || [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (text) judge("text of " + name, style.color, ground(node), 4.5);
        if (node.placeholder) judge("placeholder of " + name, getComputedStyle(node, "::placeholder").color, ground(node), 4.5);
        if (field || node.matches("button:not(.plain)")) judge("edge of " + name, style.borderTopColor, ground(node.parentElement), 3);
    }
    const root = getComputedStyle(document.documentElement);
    return { low, least: Math.min(...seen), count: seen.length, scheme: matchMedia("(prefers-color-scheme: dark)").matches };`;

const size = (page, width, height) =>
    page.devtools("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 });
const media = (page, features) =>
    page.devtools("Emulation.setEmulatedMedia", { features: Object.entries(features).map(([name, value]) => ({ name, value })) });

/** Elements that reach beyond the window, other than inside of what scrolls by itself. */
const BEYOND = `const out = [...document.body.querySelectorAll("*")].filter((n) => n.checkVisibility() && !n.closest("pre, .unseen")
        && (n.getBoundingClientRect().right > innerWidth + 0.5 || n.getBoundingClientRect().left < -0.5));
    return { scroll: document.documentElement.scrollWidth, width: innerWidth, out: out.map((n) => n.localName + "#" + n.id + "." + n.className) };`;

async function fits(page, what) {
    const { scroll, width, out } = await page.run(BEYOND);
    page.expect(scroll <= width && out.length === 0, `${what}: ${scroll} px in ${width}, beyond: ${out}`);
}

const toggle = (page) => page.run(`$("settings").click();`);
const opened = (page, open) => page.run(`if ($("panel").hidden === arguments[0]) $("settings").click();`, open);

export const looks = [
    ["a conversation to look at", async (page) => {
        await opened(page, true);
        await page.choose({ temperature: "0.7", seed: "7" });
        for (const text of ["hello", "think", "markdown", "tool", "refuse"]) await page.say(text);
        await page.run(`document.querySelector("details.think").open = true;`);
        await page.choose({ schema: "{" });
        await page.run(`await until(() => /^[1-9]/.test($("l-speed").textContent));`);
    }],
    ["contrast, in light and in dark", async (page) => {
        for (const scheme of ["light", "dark"]) {
            await media(page, { "prefers-color-scheme": scheme });
            const { low, least, count, scheme: dark } = await page.run(CONTRAST);
            page.expect(dark === (scheme === "dark"), `it is ${scheme}`);
            page.expect(count > 60 && low.length === 0, `${scheme}: too little contrast: ${low.join(", ")} (of ${count})`);
            console.log(`   ${scheme}: ${count} pairs of colours, the least ${least.toFixed(2)}`);
            await page.run(`$("log").scrollTop = 0;`);
            await page.shot(`${scheme}-top`);
            await page.run(`$("log").scrollTop = 1e6; $("send").focus();`);
            await page.shot(`${scheme}-end`);
        }
    }],
    ["a phone's width", async (page) => {
        for (const [width, height] of [[360, 740], [320, 256], [740, 360], [1920, 1080], [900, 700]]) {
            await size(page, width, height);
            for (const open of [false, true]) {
                await opened(page, open);
                await fits(page, `${width} x ${height}, settings ${open ? "open" : "closed"}`);
                await page.shot(`${width}x${height}-${open ? "settings" : "talk"}`);
            }
            // What is written in must be there to be reached.
            await opened(page, false);
            const box = await page.run(`$("prompt").scrollIntoView({ block: "nearest" });
                const { top, bottom, width } = $("prompt").getBoundingClientRect();
                return { top, bottom, width, height: innerHeight, log: $("log").clientHeight };`);
            page.expect(box.top > -1 && box.bottom < box.height + 1 && box.width > 180 && box.log > 100, `${width} x ${height}: ${JSON.stringify(box)}`);
        }
        await media(page, { "prefers-color-scheme": "light" });
        await size(page, 360, 740);
        await page.shot("360x740-light");
        await page.devtools("Emulation.clearDeviceMetricsOverride");
        await media(page, {});
    }],
    ["motion only where it is wanted", async (page) => {
        await page.run(`$("prompt").value = "endless"; $("schema").value = ""; $("prompt").focus();`);
        await page.press("Enter");
        await page.run(`await until(() => document.querySelector(".busy .body > .text"));`);
        for (const [wanted, name] of [["no-preference", "wait"], ["reduce", "none"]]) {
            await media(page, { "prefers-reduced-motion": wanted });
            const found = await page.run(`return getComputedStyle(document.querySelector(".busy .body > .text > .l:last-child"), "::after").animationName;`);
            page.expect(found === name, `${wanted}: the animation is ${found}`);
        }
        await page.shot("busy");
        await page.press("Escape");
        await page.last();
        await media(page, {});
    }],
    ["the order of the focus, which is seen", async (page) => {
        await page.click("#clear");
        await opened(page, false);
        await page.say("hello");
        await page.run(`document.activeElement.blur(); $("settings").focus();`);
        const visited = [];
        for (let i = 0; i < 7; i++) {
            visited.push(await page.run(`const node = document.activeElement, style = getComputedStyle(node);
                return (node.id || node.textContent) + (style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2 ? "" : " without outline");`));
            await page.press("Tab");
        }
        const wanted = "settings log Edit Regenerate Copy prompt send";
        page.expect(visited.join(" ") === wanted, `the order: ${visited.join(" ")}, not ${wanted}`);
        // Settings: into them, and out of them by Escape.
        await page.run(`$("settings").focus();`);
        await page.press("Enter");
        let at = await page.run(`return [document.activeElement.id, $("settings").getAttribute("aria-expanded")];`);
        page.expect(at.join() === "panel-title,true", `opened: ${at}`);
        await page.press("Tab", "Tab", "Escape");
        at = await page.run(`return [document.activeElement.id, $("settings").getAttribute("aria-expanded"), $("panel").hidden];`);
        page.expect(at.join() === "settings,false,true", `closed: ${at}`);
    }],
    ["everything has a name", async (page) => {
        await opened(page, true);
        const { nodes } = await page.devtools("Accessibility.getFullAXTree");
        const roles = ["button", "textbox", "spinbutton", "combobox", "group", "main", "complementary"];
        const found = nodes.filter((n) => !n.ignored && roles.includes(n.role?.value));
        const nameless = found.filter((n) => n.role.value !== "group" && !n.name?.value).map((n) => n.role.value);
        page.expect(found.length > 18 && nameless.length === 0, `of ${found.length} nodes these have no name: ${nameless}`);
        const ids = await page.run(`const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
            return ids.filter((id, i) => ids.indexOf(id) !== i);`);
        page.expect(ids.length === 0, `ids that are there twice: ${ids}`);
    }],
];
