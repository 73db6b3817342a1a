// node test/browser.mjs SITE [SCREENSHOT.png]
//
// The page in headless Chromium, by chromedriver: it loads, writes, stops by its button, refuses a file
// that is none, and answers while it writes.
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, resolve } from "node:path";
import { chromium, expect } from "../../../tests/browser/chromium.mjs";

const [site, screenshot] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript" };
const asked = [];
const server = createServer((request, response) => {
    const name = request.url === "/" ? "/index.html" : request.url;
    asked.push(name);
    try {
        const body = readFileSync(join(site, name));
        response.setHeader("Content-Type", TYPES[extname(name)] ?? "application/octet-stream");
        response.end(body);
    } catch {
        response.writeHead(404).end();
    }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const page = `http://127.0.0.1:${server.address().port}/`;

let browser, failed = false;
try {
    browser = await chromium();
    const { run, click } = browser;

    await browser.open(page);
    const status = await run(`await until(() => !$("write").disabled); return $("status").textContent;`);
    expect(/is ready/.test(status), `it loads: ${status}`);

    // The larger model writes to the end of its story.
    const other = await run(`$("model").value = "stories-3m.gguf"; $("model").onchange();
        await until(() => !$("write").disabled); return $("status").textContent;`);
    expect(/3,136,512 parameters/.test(other), `another model: ${other}`);
    await click("#write");
    const [story, why, speed, memory] = await run(`await until(() => $("stop").disabled);
        return [$("text").textContent, $("status").textContent, $("speed").textContent, $("memory").textContent];`);
    expect(story.startsWith("Once upon a time") && story.split(" ").length > 40, `a story: ${story}`);
    expect(/end|tokens/.test(why) && /^\d.* tokens\/s$/.test(speed) && /MB$/.test(memory), `${why} ${speed} ${memory}`);
    console.log(`-- a story of ${story.length} characters at ${speed}, ${memory}`);
    if (screenshot) await browser.screenshot(screenshot);

    // While it writes: frames go on, a click is answered, and the button stops it.
    const live = await run(`
        const gaps = [];
        let last = performance.now(), on = true;
        const frame = (now) => { gaps.push(now - last); last = now; if (on) requestAnimationFrame(frame); };
        $("temperature").value = 0.9;
        $("write").click();
        requestAnimationFrame(frame);
        await until(() => Number($("tokens").textContent) > 0 && gaps.length > 10);
        const sent = performance.now();
        const answered = await new Promise((r) => {
            addEventListener("click", () => r(performance.now() - sent), { once: true });
            $("stop").click();
        });
        await until(() => $("stop").disabled);
        const stopped = performance.now() - sent;
        on = false;
        const before = $("text").textContent;
        await new Promise((r) => setTimeout(r, 200));
        gaps.sort((a, b) => a - b);
        return { answered, stopped, frames: gaps.length, median: gaps[gaps.length >> 1],
            status: $("status").textContent, quiet: before === $("text").textContent };`);
    console.log(`-- while it writes: ${JSON.stringify(live)}`);
    expect(live.status === "Stopped." && live.quiet, `it stops: ${JSON.stringify(live)}`);
    expect(live.median < 100 && live.answered < 100 && live.stopped < 2000, "it doesn't answer while it writes");

    // A file that is none, chosen by the user; then a model again.
    const bad = join(browser.profile, "bad.gguf");
    writeFileSync(bad, readFileSync(join(site, "stories-260k.gguf")).subarray(0, 100_000));
    await browser.type("#file", bad);
    const error = await run(`await until(() => /Error/.test($("status").textContent)); return $("status").textContent;`);
    expect(/Error: .*(file|bytes)/.test(error), `an error text: ${error}`);
    const good = resolve(site, "stories-260k.gguf");
    await browser.type("#file", good);
    const again = await run(`await until(() => !$("write").disabled); return $("status").textContent;`);
    expect(/is ready/.test(again), `it goes on: ${again}`);

    const severe = await browser.errors();
    expect(severe.length === 0, `the console says ${JSON.stringify(severe)}`);
    const known = /^\/(index\.html|page\.js|worker\.js|teff\.js|teff-simd128\.wasm\.gz|stories-.*\.gguf)$/;
    expect(asked.every((name) => known.test(name)), `it asked for ${asked}`);
    console.log(`-- the error says: ${error}`);
} catch (e) {
    console.log(`FAILED: ${e.message}`);
    failed = true;
} finally {
    await browser?.close();
    server.close();
}
process.exit(failed ? 1 : 0);
