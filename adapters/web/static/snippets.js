// Programs that ask this server for what is on screen, in the formats of the APIs that it serves. Pure: from a
// request and this server's address to text. The key comes from the environment, never from the page.

/** The formats: name, what speaks it, the path that is called, and what it cannot say. */
export const FORMATS = [
  { id: "openai", title: "OpenAI images", about: "One call that answers with the picture. Any OpenAI client works with the address changed.", lacks: [] },
  { id: "stochastic", title: "Stochastic", about: "Submit, then poll until the pictures appear.", lacks: ["scheduler"] },
  { id: "salad", title: "Salad jobs", about: "Create a job, then poll it; webhooks, a list and cancelling too.", lacks: [] },
  { id: "salad-beta", title: "Salad beta", about: "The older form of Salad's endpoints: 202, then poll.", lacks: [] },
];
export const LANGUAGES = [["curl", "curl"], ["python", "Python"], ["javascript", "JavaScript"]];

/**
 * A program. format, language: ids from the lists; server: "http://127.0.0.1:8765"; request: {prompts, negative_prompt,
 * width, height, steps, guidance_scale, seed or null, count, scheduler or null, scheduler_class or null, model}.
 */
export function snippet(format, language, server, request) {
  return WRITERS[format][language](server, bodyOf(format, request), request);
}

/** The JSON that is sent. What is left out means the model's own. */
export function bodyOf(format, request) {
  const { prompts, width, height, steps, guidance_scale, seed, count, negative_prompt, model } = request;
  const prompt = prompts.length === 1 ? prompts[0] : prompts;
  if (format === "openai") {
    return { model, prompt: prompts[0], n: count, size: `${width}x${height}`, response_format: "b64_json",
      ...given({ steps, guidance_scale, seed, negative_prompt, scheduler: request.scheduler }) };
  }
  if (format === "stochastic") {
    return { prompt, params: { img_height: height, img_width: width,
      ...given({ num_inference_steps: steps, guidance_scale, seed, negative_prompt }), num_images_per_prompt: count } };
  }
  const inputs = { prompt, ...given({ negative_prompt, num_inference_steps: steps, guidance_scale }), width, height,
    num_images_per_prompt: count, ...given({ seed }) };
  const call = { modelInputs: inputs, callInputs: { PIPELINE: "StableDiffusionPipeline", ...given({ SCHEDULER: request.scheduler_class }) } };
  return format === "salad" ? { input: call } : call;
}

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== ""));

// --- what each language needs -----------------------------------------------------------------------------

const json = (body, indent = 2) => JSON.stringify(body, null, indent);
const inShell = (body) => `'${json(body).replaceAll("'", `'\\''`)}'`;
const indented = (text, by) => text.replaceAll("\n", `\n${" ".repeat(by)}`);

/** A Python literal. JSON's texts are Python's too, but for what lies beyond 16 bits, which Python reads alike. */
function python(value, indent = 0) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return typeof value === "string" ? JSON.stringify(value) : String(value);
  const pad = " ".repeat(indent + 4);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value) ? value.map((item) => python(item, indent + 4))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, indent + 4)}`);
  return `${open}\n${items.map((item) => `${pad}${item},`).join("\n")}\n${" ".repeat(indent)}${close}`;
}

const SHELL_HEAD = "# once: export FAIRBRUSH_KEY=$(fairbrush key create NAME | tail -n 1)\n";
const SAVE_B64 = (list) => `for i, text in enumerate(${list}, 1):
    with open(f"picture-{i}.png", "wb") as file:
        file.write(base64.b64decode(text))`;
const JS_SAVE_B64 = (list) => `for (const [i, text] of ${list}.entries()) {
  await writeFile(\`picture-\${i + 1}.png\`, Buffer.from(text, "base64"));
}`;

/** Reads from a shell's $job; the answers are compact JSON, so that sed is enough. */
const field = (name) => `sed -n 's/.*"${name}": *"\\([^"]*\\)".*/\\1/p'`;
const FROM_IMAGES = `echo "$job" | sed -e 's/.*"images": *\\[//' -e 's/\\].*//' | tr ',' '\\n' | tr -d '" ' | while read -r picture; do
  i=$((i + 1)); echo "$picture" | base64 -d > "picture-$i.png"
done`;

const WRITERS = {
  openai: {
    curl: (server, body) => `${SHELL_HEAD}curl -sS --fail-with-body ${server}/v1/images/generations \\
  -H "Authorization: Bearer $FAIRBRUSH_KEY" -H "Content-Type: application/json" \\
  -d ${inShell(body)} > answer.json
tr '{' '\\n' < answer.json | ${field("b64_json")} | while read -r picture; do
  i=$((i + 1)); echo "$picture" | base64 -d > "picture-$i.png"
done`,
    python: (server, body) => {
      const { steps, guidance_scale, seed, negative_prompt, scheduler, ...known } = body;
      const extra = given({ steps, guidance_scale, seed, negative_prompt, scheduler });
      const call = { ...known, ...(Object.keys(extra).length ? { extra_body: extra } : {}) };
      const lines = Object.entries(call).map(([name, value]) => `    ${name}=${python(value, 4)},`).join("\n");
      return `import base64, os
from openai import OpenAI  # pip install openai

client = OpenAI(base_url="${server}/v1", api_key=os.environ["FAIRBRUSH_KEY"])
answer = client.images.generate(
${lines}
)
${SAVE_B64("[picture.b64_json for picture in answer.data]")}`;
    },
    javascript: (server, body) => `import { writeFile } from "node:fs/promises";

const answer = await fetch("${server}/v1/images/generations", {
  method: "POST",
  headers: { Authorization: \`Bearer \${process.env.FAIRBRUSH_KEY}\`, "Content-Type": "application/json" },
  body: JSON.stringify(${indented(json(body), 2)}),
});
const { data, error } = await answer.json();
if (error) throw new Error(error.message);
${JS_SAVE_B64("data.map((picture) => picture.b64_json)")}`,
  },

  stochastic: {
    curl: (server, body, request) => `${SHELL_HEAD}job=$(curl -sS --fail-with-body ${server}/v1/modelApi/submit/${model(request)} \\
  -H "apiKey: $FAIRBRUSH_KEY" -H "Content-Type: application/json" \\
  -d ${inShell(body)})
url=$(echo "$job" | ${field("responseUrl")})
until echo "$job" | grep -q presigned_url; do
  sleep 1
  job=$(curl -sS --fail-with-body -H "apiKey: $FAIRBRUSH_KEY" "$url") || { echo "$job"; exit 1; }
done
echo "$job" | tr '{' '\\n' | ${field("presigned_url")} | while read -r link; do
  i=$((i + 1)); curl -sS "$link" -o "picture-$i.png"
done`,
    python: (server, body, request) => `import os, time
import requests  # pip install requests

key = {"apiKey": os.environ["FAIRBRUSH_KEY"]}
answer = requests.post("${server}/v1/modelApi/submit/${model(request)}", headers=key, json=${python(body)})
answer.raise_for_status()
job = answer.json()["data"]
url = job["responseUrl"]
while not job.get("generatedImages"):
    time.sleep(1)
    answer = requests.get(url, headers=key)
    answer.raise_for_status()
    job = answer.json()["data"]
for i, picture in enumerate(job["generatedImages"], 1):
    with open(f"picture-{i}.png", "wb") as file:
        file.write(requests.get(picture["presigned_url"]).content)`,
    javascript: (server, body, request) => `import { writeFile } from "node:fs/promises";

const headers = { apiKey: process.env.FAIRBRUSH_KEY, "Content-Type": "application/json" };
const call = async (url, options) => {
  const answer = await (await fetch(url, { headers, ...options })).json();
  if (!answer.success) throw new Error(answer.message);
  return answer.data;
};
let job = await call("${server}/v1/modelApi/submit/${model(request)}", {
  method: "POST",
  body: JSON.stringify(${indented(json(body), 2)}),
});
const { responseUrl } = job;
while (!job.generatedImages) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await call(responseUrl);
}
for (const [i, { presigned_url }] of job.generatedImages.entries()) {
  await writeFile(\`picture-\${i + 1}.png\`, Buffer.from(await (await fetch(presigned_url)).arrayBuffer()));
}`,
  },

  salad: polled({
    path: (request) => `/api/public/organizations/ORGANIZATION/inference-endpoints/${model(request)}/jobs`,
    id: "id", waiting: ["pending", "running"], done: "succeeded", images: "output",
  }),
  "salad-beta": polled({
    path: (request) => `/api/beta/organizations/ORGANIZATION/inference-endpoints/${model(request)}`,
    id: "requestId", waiting: ["pending"], done: "success", images: "modelOutputs",
  }),
};

/** A model's name in a path: ids may hold slashes. */
const model = (request) => encodeURIComponent(request.model);

/** Both of Salad's APIs: a job is created, and asked for until it has ended. */
function polled({ path, id, waiting, done, images }) {
  const still = waiting.join("|");
  const url = (server, request) => `${server}${path(request).replace("ORGANIZATION", "fairbrush")}`;
  return {
    curl: (server, body, request) => `${SHELL_HEAD}url=${url(server, request)}
job=$(curl -sS --fail-with-body "$url" -H "Salad-Api-Key: $FAIRBRUSH_KEY" -H "Content-Type: application/json" \\
  -d ${inShell(body)}) || { echo "$job"; exit 1; }
id=$(echo "$job" | sed -n 's/.*"${id}": *"\\([0-9a-f-]\\{36\\}\\)".*/\\1/p')
job='"status":"pending"'
while echo "$job" | grep -qE '"status": *"(${still})"'; do
  sleep 1
  job=$(curl -sS --fail-with-body -H "Salad-Api-Key: $FAIRBRUSH_KEY" "$url/$id") || { echo "$job"; exit 1; }
done
${FROM_IMAGES}`,
    python: (server, body, request) => `import base64, os, time
import requests  # pip install requests

url = "${url(server, request)}"
key = {"Salad-Api-Key": os.environ["FAIRBRUSH_KEY"]}
answer = requests.post(url, headers=key, json=${python(body)})
answer.raise_for_status()
job = {"${id}": answer.json()["${id}"], "status": "pending"}
while job["status"] in (${waiting.map((word) => `"${word}"`).join(", ")}${waiting.length === 1 ? "," : ""}):
    time.sleep(1)
    answer = requests.get(f"{url}/{job['${id}']}", headers=key)
    answer.raise_for_status()
    job = answer.json()
if job["status"] != "${done}":
    raise SystemExit(job)
${SAVE_B64(`job["${images}"]["images"]`)}`,
    javascript: (server, body, request) => `import { writeFile } from "node:fs/promises";

const url = "${url(server, request)}";
const headers = { "Salad-Api-Key": process.env.FAIRBRUSH_KEY, "Content-Type": "application/json" };
const call = async (url, options) => {
  const answer = await fetch(url, { headers, ...options });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};
const { ${id} } = await call(url, {
  method: "POST",
  body: JSON.stringify(${indented(json(body), 2)}),
});
let job;
do {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await call(\`\${url}/\${${id}}\`);
} while (${waiting.map((word) => `job.status === "${word}"`).join(" || ")});
if (job.status !== "${done}") throw new Error(JSON.stringify(job));
${JS_SAVE_B64(`job.${images}.images`)}`,
  };
}
