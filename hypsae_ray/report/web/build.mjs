// Bundles src/main.js into ../explore.js, the script of report.html; with --check compares only.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const OUT = "../explore.js";

process.chdir(import.meta.dirname);
const found = await bundle();
if (!process.argv.includes("--check")) {
  writeFileSync(OUT, found);
  console.log(`explore.js: ${(found.length / 1e3).toFixed(0)} kB`);
} else if (!existsSync(OUT) || readFileSync(OUT, "utf8") !== found) {
  console.error("explore.js is not what the sources make: run `make web`.");
  process.exitCode = 1;
}

async function bundle() {
  const { outputFiles, metafile } = await build({
    entryPoints: ["src/main.js"],
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    // Packages of stdlib load `debug`, which would read localStorage.
    alias: { debug: "./src/quiet.cjs" },
    legalComments: "eof",
    metafile: true,
    write: false,
    tsconfigRaw: "{}",
    logLevel: "error",
  });
  const text = `// sources sha256: ${sourceHash()}\n${outputFiles[0].text}${licences(bundled(metafile))}`;
  if (/<\/script|<!--/i.test(text)) throw new Error("explore.js cannot stand inside a <script> element");
  return text;
}

function bundled({ outputs }) {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  return inputs.filter(([, input]) => input.bytesInOutput > 0).map(([path]) => path);
}

/** As `sha256sum FILES | sha256sum` says it, of all that decides the bundle. tests/unit/test_web.py does the same. */
function sourceHash() {
  const names = readdirSync("src", { recursive: true }).map((name) => join("src", name));
  const files = [...names.filter((name) => statSync(name).isFile()), "build.mjs", "package-lock.json"].sort();
  return sha256(files.map((name) => `${sha256(readFileSync(name))}  ${name}\n`).join(""));
}

function sha256(content) {
  return createHash("sha256").update(content).digest("hex");
}

/** A comment with the licences of the bundled packages, each text once: their files seldom hold a comment of their own. */
function licences(inputs) {
  const folders = new Set(inputs.map((path) => path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]).filter(Boolean));
  const byText = new Map();
  for (const folder of [...folders].sort()) {
    const { text, owners } = licence(folder);
    const { name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const packages = byText.get(text) ?? byText.set(text, new Map()).get(text);
    packages.set(owners, [...(packages.get(owners) ?? []), `${name} ${version}`]);
  }
  const texts = [...byText.keys()].sort((a, b) => a.length - b.length);
  const parts = texts.map((text, i) => notice(text, byText.get(text), texts.slice(0, i)));
  return `/*!\nLicences of what is bundled here.\n\n${parts.join("\n\n").replaceAll("*/", "* /")}\n*/\n`;
}

/** Lines that say whose it is, and the rest, which many packages share. */
function licence(folder) {
  const names = readdirSync(folder).filter((name) => /^(licen[cs]e|notice)/i.test(name)).sort();
  if (!names.length) throw new Error(`${folder} has no licence file`);
  const lines = names.flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n")).map((line) => line.trimEnd());
  const isOwner = (line) => /^Copyright \(?[c\d]/i.test(line);
  const text = lines.filter((line) => !isOwner(line)).join("\n");
  return { text: text.replace(/\n{3,}/g, "\n\n").trim(), owners: lines.filter(isOwner).join("\n") };
}

/** The packages of a text by owner, then the text, without a part that stands above. */
function notice(text, packages, above) {
  const whose = [...packages].map(([owners, names]) => `${names.join(", ")}\n${owners}`.trim()).join("\n");
  const known = above.findLast((other) => text.startsWith(other));
  return `${whose}\n\n${known ? `The text that begins "${known.trim().split("\n")[0]}" above, and:\n${text.slice(known.length).trim()}` : text}`;
}
