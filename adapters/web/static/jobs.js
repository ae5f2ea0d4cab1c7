// The requests of this browser as the page knows them, newest first, and who wants to know.

const known = new Map();
const watchers = new Set();
export const ENDED = new Set(["done", "failed", "cancelled", "withheld"]);

export const ended = (job) => ENDED.has(job.state);
export const get = (id) => known.get(id);
export const all = () => [...known.values()].sort((a, b) => b.order - a.order);

// Sequences only grow, so one more than the highest known is at most the true one: what is new stays in order
// until the server has told its sequence.
const next = () => Math.max(0, ...[...known.values()].map((job) => job.order)) + 1;

/** Call `watcher(job, isNew)` with each change, `watcher(job, false, true)` where one was removed. */
export const watch = (watcher) => watchers.add(watcher);

/** Merge what is newly known about a request. A progress that comes after the end is stale. */
export function learn(news) {
  const before = known.get(news.id);
  if (before && ended(before) && news.state && !ENDED.has(news.state)) return before;
  const order = news.sequence ?? before?.order ?? next();
  const job = { pictures: [], ...before, ...news, order };
  if (ended(job)) delete job.preview;
  known.set(job.id, job);
  watchers.forEach((watcher) => watcher(job, !before, false));
  return job;
}

/** Forget a request. */
export function forget(id) {
  const job = known.get(id);
  known.delete(id);
  if (job) watchers.forEach((watcher) => watcher(job, false, true));
}

/** The oldest sequence known, to ask for what is older. */
export const oldest = () => Math.min(...[...known.values()].map((job) => job.order));
