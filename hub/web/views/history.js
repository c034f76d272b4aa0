// The last hour, minute by minute, as charts want it.

const MINUTES = 60;
const LEAST_PART_S = 10; // a minute that has just begun says little: its rates are reckoned as if it were this old

/** `{ at, point, partS }` for every minute of the last hour; `point` is missing where nothing happened. */
export function minutes(history, now) {
  const stepMs = (history.step_s ?? 60) * 1000;
  const last = Math.floor(now / stepMs) * stepMs;
  const points = history.points ?? {};
  return Array.from({ length: MINUTES }, (_, place) => {
    const at = last - (MINUTES - 1 - place) * stepMs;
    const partS = Math.min(stepMs, Math.max(LEAST_PART_S * 1000, now - at)) / 1000;
    return { at, point: points[at], partS };
  });
}

export function tokenRates(hour) {
  return hour.map(({ at, point, partS }) => ({ at, values: [(point?.completion_tokens ?? 0) / partS] }));
}

export function requestCounts(hour) {
  return hour.map(({ at, point }) => {
    const failed = point?.failed ?? 0;
    return { at, values: [Math.max(0, (point?.requests ?? 0) - failed), failed] };
  });
}

export function firstTokenTimes(hour) {
  return hour.map(({ at, point }) => ({
    at,
    values: [point?.first_token_p50_ms ?? null, point?.first_token_p95_ms ?? null],
  }));
}
