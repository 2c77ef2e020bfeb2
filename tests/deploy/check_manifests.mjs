// SPDX-License-Identifier: MIT
// node check_manifests.mjs CLIENT JS_YAML FILE...
//
// What an API server would refuse and a laxer client swallow: unknown fields, wrong types, missing fields, unknown kinds.
// CLIENT is an unpacked @kubernetes/client-node, whose model maps are generated from the API's OpenAPI document, JS_YAML
// an unpacked js-yaml. One line per mistake; the exit code is 1 if there are any.
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [client, yamlPackage, ...files] = process.argv.slice(2);
const yaml = await import(pathToFileURL(resolve(yamlPackage, "dist/js-yaml.mjs")));
const generated = resolve(client, "dist/gen");
const mistakes = [];

function typeName(value) {
  return value === null ? "nothing" : Array.isArray(value) ? "a list" : typeof value === "object" ? "a map" : `a ${typeof value}`;
}

async function check(value, type, place) {
  const wrong = (wanted) => mistakes.push(`${place}: ${wanted} is wanted, this is ${typeName(value)}`);
  const list = /^Array<(.*)>$/.exec(type);
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
  if (type === "any") return;
  if (list) {
    if (!Array.isArray(value)) return wrong("a list");
    for (const [index, item] of value.entries()) await check(item, list[1], `${place}[${index}]`);
  } else if (map) {
    if (typeName(value) !== "a map") return wrong("a map");
    for (const [key, item] of Object.entries(value)) await check(item, map[1], `${place}.${key}`);
  } else if (type === "IntOrString") {
    if (!Number.isInteger(value) && typeof value !== "string") wrong("an integer or a string");
  } else if (type === "number") {
    // The maps do not tell integers from others; in the kinds of ours every number is one.
    if (!Number.isInteger(value)) wrong("an integer");
  } else if (type === "string" || type === "boolean") {
    if (typeof value !== type) wrong(`a ${type}`);
  } else {
    if (typeName(value) !== "a map") return wrong("a map");
    const model = (await import(pathToFileURL(join(generated, "models", `${type}.js`))))[type];
    const fields = new Map(model.getAttributeTypeMap().map((field) => [field.baseName, field.type]));
    for (const [key, item] of Object.entries(value)) {
      if (fields.has(key)) await check(item, fields.get(key), `${place}.${key}`);
      else mistakes.push(`${place}: there is no field '${key}' (${type} has ${[...fields.keys()].join(", ")})`);
    }
    // Only the TypeScript declarations know what may be left out:  'name': string;  against  'image'?: string;
    for (const [, key] of readFileSync(join(generated, "models", `${type}.d.ts`), "utf8").matchAll(/^    '(\w+)': /gm))
      if (!(key in value)) mistakes.push(`${place}: the field '${key}' is missing`);
  }
}

// apps/v1 DaemonSet: V1DaemonSet, if the class for apps/v1 has it.
async function checkObject(object, place) {
  if (typeName(object) !== "a map") return mistakes.push(`${place}: an object is wanted, this is ${typeName(object)}`);
  const { apiVersion = "", kind = "" } = object;
  const [, group = "core", version] = /^(?:([^/]+)\/)?(v\w+)$/.exec(apiVersion) ?? [];
  const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
  const name = group.replace(/\.k8s\.io$/, "").split(".").map(capital).join("");
  const api = join(generated, "apis", `${name}${capital(version ?? "")}Api.js`);
  const model = `${capital(version ?? "")}${kind}`;
  if (!existsSync(api) || !readFileSync(api, "utf8").includes(`"${model}"`))
    return mistakes.push(`${place}: there is no kind '${kind}' in '${apiVersion}'`);
  await check(object, model, `${place}: ${kind}`);
}

for (const file of files) {
  try {
    for (const object of yaml.loadAll(readFileSync(file, "utf8"))) await checkObject(object, file);
  } catch (error) {
    mistakes.push(`${file}: ${error.message}`); // no YAML; a key that is given twice
  }
}
for (const mistake of mistakes) console.log(mistake);
process.exitCode = mistakes.length > 0 ? 1 : 0;
