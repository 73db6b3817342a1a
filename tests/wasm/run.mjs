// node tests/wasm/run.mjs HASHES MODULE...
//
// Checks modules that are named plain.wasm and simd128.wasm: nothing in them differs from their scalar truth, and their hashes are those
// that the native program printed into the file HASHES, one to a line, for the seeds from 0 on.
import { readFileSync } from "node:fs";

const [hashes, ...modules] = process.argv.slice(2);
const native = readFileSync(hashes, "utf8").trim().split("\n");
let failed = native.length === 0 || modules.length === 0;
for (const path of modules) {
    const vectors = path.endsWith("simd128.wasm") ? 1 : 0;
    const { instance } = await WebAssembly.instantiate(readFileSync(path), {});
    const module = instance.exports;
    if (module.vectors() !== vectors) {
        console.log(`${path}: vectors ${module.vectors()}, not ${vectors}`);
        failed = true;
    }
    let compared = 0n;
    native.forEach((want, seed) => {
        const differing = module.check(seed);
        const got = BigInt.asUintN(64, module.hash()).toString(16).padStart(16, "0");
        compared += module.compared();
        if (differing !== 0 || got !== want) {
            console.log(`${path}, seed ${seed}: ${differing} differ from scalar; ${got}, native ${want}`);
            failed = true;
        }
    });
    console.log(`-- ${vectors ? "simd128" : "plain"}: ${native.length} seeds, ${compared} numbers`);
}
process.exit(failed ? 1 : 0);
