// node serve/tests/page/browser.mjs [--shots FOLDER] [--url URL [--key KEY]]
//
// The page of `teff serve` in headless Chromium: against the server at this address, or against a scripted
// one (mock.mjs), which also does what no model could be made to do.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium, expect } from "../../../tests/browser/chromium.mjs";
import { real } from "./real.mjs";
import { looks } from "./looks.mjs";
import { scripted } from "./scripted.mjs";
import { mock } from "./mock.mjs";

const { values: options } = parseArgs({ options: { shots: { type: "string" }, url: { type: "string" }, key: { type: "string" } } });
const HTML = new URL("../../src/page/index.html", import.meta.url);
const MAX_BYTES = 40_000;
const KEYS = { Tab: "\uE004", Enter: "\uE007", Shift: "\uE008", Escape: "\uE00C" };

if (options.shots) mkdirSync(options.shots, { recursive: true });

let browser, server, failed = false;
try {
    const html = readFileSync(HTML, "utf8");
    expect(Buffer.byteLength(html) <= MAX_BYTES, `the page has ${Buffer.byteLength(html)} bytes, at most ${MAX_BYTES}`);
    if (!options.url) server = await mock(html);
    browser = await chromium("1280,900");

    const page = {
        ...browser,
        expect,
        url: options.url ?? server.url,
        control: server?.control,
        key: options.key,
        /** Presses keys one after another, at the element that has the focus; "Shift+Enter" are two at once. */
        async press(...keys) {
            const actions = keys.flatMap((key) => {
                const held = key.split("+").map((name) => KEYS[name] ?? name);
                const down = held.map((value) => ({ type: "keyDown", value }));
                return [...down, ...held.toReversed().map((value) => ({ type: "keyUp", value }))];
            });
            await browser.ask("POST", "/actions", { actions: [{ type: "key", id: "keys", actions }] });
        },
        /** Waits until the server is known, and the page at rest. */
        ready: () => browser.run(`await until(() => !$("send").disabled && !$("send").hidden);`),
        /** The last turn as the page shows it, when it has ended. */
        async last() {
            await browser.run(`await until(() => $("stop").hidden);`);
            return browser.run(`const turn = [...document.querySelectorAll("article")].at(-1);
                const text = (css) => turn?.querySelector(css)?.innerText ?? "";
                return { turns: document.querySelectorAll("article").length, user: text(".user .text"), answer: text(".body > .text"),
                    thought: turn?.querySelector(".think .text")?.textContent ?? "", calls: text(".calls"), note: text(".note"), error: text(".error") };`);
        },
        /** Asks, and gives the turn when it has ended. */
        async say(text) {
            await browser.run(`$("prompt").value = arguments[0]; $("prompt").focus();`, text);
            await page.press("Enter");
            return page.last();
        },
        async choose(fields) {
            await browser.run(`for (const [id, value] of Object.entries(arguments[0])) {
                $(id).value = value;
                $(id).dispatchEvent(new Event("input", { bubbles: true }));
            }`, fields);
        },
        status: () => browser.run(`return $("status").textContent;`),
        async shot(name) {
            if (!options.shots) return;
            await browser.run(`for (let i = 0; i < 2; i++) await new Promise((r) => requestAnimationFrame(r));`);
            await browser.screenshot(join(options.shots, `${name}.png`));
        },
    };
    const tests = options.url ? real : [...scripted, ...looks];
    for (const [name, test] of tests) {
        console.log(`-- ${name}`);
        await test(page);
    }
    console.log(`-- ${tests.length} checks of the page passed`);
} catch (e) {
    console.log(`FAILED: ${e.stack}`);
    failed = true;
    if (options.shots) await browser?.screenshot(join(options.shots, "failed.png")).catch(() => {});
} finally {
    await browser?.close();
    server?.server.closeAllConnections();
    server?.server.close();
}
process.exit(failed ? 1 : 0);
