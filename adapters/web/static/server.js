// What the page asks of its server.

const AT = "/playground/api";

/** A refusal: `field` names the option it is about, where it is about one. */
export class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.field = error.field;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(AT + path, { method, body, ...headersFor(body) });
  } catch {
    throw new Refusal(0, { message: "The server cannot be reached. Is Fairbrush still running?" });
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Refusal(response.status, answer?.error ?? { message: `The server answered ${response.status}.` });
}

function headersFor(body) {
  return typeof body === "string" ? { headers: { "Content-Type": "application/json" } } : {};
}

const id = (job) => encodeURIComponent(job);

/** A new name for one press of a button, so that a request sent twice is one. */
export const newEvent = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const setup = () => call("GET", "/setup");
export const signIn = (key) => call("POST", "/session", JSON.stringify({ key }));
export const signOut = () => call("DELETE", "/session");
export const history = (before) => call("GET", before ? `/jobs?before=${before}` : "/jobs");
export const show = (job) => call("GET", `/jobs/${id(job)}`);
export const cancel = (job) => call("POST", `/jobs/${id(job)}/cancel`);
export const again = (job) => call("POST", `/jobs/${id(job)}/again`, JSON.stringify({ event: newEvent() }));
export const remove = (job) => call("DELETE", `/jobs/${id(job)}`);
export const check = (text, options) => call("POST", "/check", JSON.stringify({ text, options }));
export const recipe = (file) => call("POST", "/recipe", file);

/** Queue a request. event: from newEvent(), the same when sending again after a lost answer. */
export function submit(event, text, options, image) {
  const request = JSON.stringify({ event, text, options });
  if (!image) return call("POST", "/jobs", request);
  const form = new FormData();
  form.append("request", request);
  form.append("image", image);
  return call("POST", "/jobs", form);
}

/** Follow what happens. hello: called whenever the stream (re)opens; job: with each piece of news. */
export function follow({ hello, job, lost }) {
  let source = null;
  let timer = 0;
  const open = () => {
    clearTimeout(timer);
    source?.close();
    source = new EventSource(`${AT}/events`);
    source.addEventListener("hello", hello);
    source.addEventListener("job", (event) => job(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      lost();
      // The browser tries again by itself unless the server answered with an error.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 3000);
    });
  };
  open();
  return () => { clearTimeout(timer); source?.close(); };
}

/** Where a picture lies, and a small form of it. */
export const pictureAt = (name) => `/playground/pictures/${encodeURIComponent(name)}`;
export const thumbnailAt = (name) => `/playground/thumbnails/${encodeURIComponent(name)}`;
