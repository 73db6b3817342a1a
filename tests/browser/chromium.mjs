// Headless Chromium for tests of pages, driven by chromedriver (https://www.w3.org/TR/webdriver2/).
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// What scripts of the tests have at hand in the page.
const PRELUDE = `
    const done = arguments[arguments.length - 1];
    const $ = (id) => document.getElementById(id);
    const until = async (f) => { while (!f()) await new Promise((r) => setTimeout(r, 10)); };`;

/** Throws unless it holds. */
export function expect(ok, what) {
    if (!ok) throw new Error(what);
}

/** A browser with one window and a profile of its own, which `close` removes. */
export async function chromium(size = "900,1000") {
    const profile = mkdtempSync(join(tmpdir(), "teff-page-"));
    const driver = spawn("chromedriver", ["--port=0"], { stdio: ["ignore", "pipe", "inherit"] });
    const remove = () => rmSync(profile, { recursive: true, force: true });
    const port = await new Promise((found, failed) => {
        let out = "";
        driver.stdout.on("data", (data) => {
            const at = /successfully on port (\d+)/.exec(out += data);
            if (at) found(at[1]);
        });
        driver.on("error", failed);
        driver.on("exit", () => failed(new Error(`chromedriver ended: ${out}`)));
    }).catch((error) => {
        remove();
        throw error;
    });
    let session = "";

    async function ask(method, path, body) {
        const url = `http://127.0.0.1:${port}/session${session}${path}`;
        const response = await fetch(url, { method, body: body && JSON.stringify(body) });
        const { value } = await response.json();
        if (!response.ok) throw new Error(`${path}: ${value.message}`);
        return value;
    }

    async function close() {
        if (session) await ask("DELETE", "").catch(() => {});
        driver.kill();
        remove();
    }

    const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        `--window-size=${size}`, `--user-data-dir=${profile}`];
    const always = { "goog:chromeOptions": { args }, "goog:loggingPrefs": { browser: "ALL" }, timeouts: { script: 60_000 } };
    try {
        session = `/${(await ask("POST", "", { capabilities: { alwaysMatch: always } })).sessionId}`;
    } catch (error) {
        await close();
        throw error;
    }

    const element = async (css) => Object.values(await ask("POST", "/element", { using: "css selector", value: css }))[0];
    return {
        ask,
        close,
        /** A folder for files of the test; `close` removes it. */
        profile,
        open: (url) => ask("POST", "/url", { url }),
        /** The value of an async function's body in the page; an error there comes as text, after "failed: ". */
        run: (script, ...args) => ask("POST", "/execute/async", { args, script: `${PRELUDE}
            (async () => { ${script} })().then(done, (e) => done("failed: " + e));` }),
        click: async (css) => ask("POST", `/element/${await element(css)}/click`, {}),
        /** Keys for an element, or a file for an input of files. */
        type: async (css, text) => ask("POST", `/element/${await element(css)}/value`, { text }),
        /** A command of the DevTools protocol. */
        devtools: (cmd, params = {}) => ask("POST", "/goog/cdp/execute", { cmd, params }),
        screenshot: async (file) => writeFileSync(file, Buffer.from(await ask("GET", "/screenshot"), "base64")),
        /** Errors of the console since it was asked last. */
        errors: async () => (await ask("POST", "/se/log", { type: "browser" })).filter((entry) => entry.level === "SEVERE"),
    };
}
