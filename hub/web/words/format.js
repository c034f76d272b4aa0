// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat("en");
const ONE_DIGIT = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

/** 12,345; a dash for what isn't known. */
export function whole(number) {
  return number === undefined || number === null ? "–" : WHOLE.format(number);
}

/** 31.4, and 1,234 from 1,000 on. */
export function rate(number) {
  if (number === undefined || number === null) return "–";
  return number >= 1000 ? WHOLE.format(Math.round(number)) : ONE_DIGIT.format(number);
}

/** 12.3K: for axes and tiles. */
export function compact(number) {
  return number === undefined || number === null ? "–" : COMPACT.format(number);
}

/** 140 ms, 1.4 s, 2 min 5 s, 3 h 10 min, 4 d 2 h. */
export function duration(ms) {
  if (ms === undefined || ms === null) return "–";
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** 140 ms or 1.4 s. */
export function latency(ms) {
  if (ms === undefined || ms === null) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${ONE_DIGIT.format(ms / 1000)} s`;
}

/** 8.2 of 24.0 GiB, out of MiB. */
export function memory(usedMib, totalMib) {
  const [used, total] = [usedMib, totalMib].map((mib) => (mib === undefined ? "–" : ONE_DIGIT.format(mib / 1024)));
  return `${used} of ${total} GiB`;
}

/** 14:05 */
export function clock(at) {
  return CLOCK.format(at);
}

/** 22 Nov 2026, 14:05 */
export function moment(at) {
  return at ? MOMENT.format(at) : "–";
}

/** The beginning of a request's id: enough to tell it from others on a screen. */
export function shortId(id) {
  return id.length > 10 ? `${id.slice(0, 8)}…` : id;
}

/** "1 node", "3 nodes". */
export function counted(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}
