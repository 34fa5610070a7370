const units: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;

// The longest delay a Node timer can hold; a longer one would fire at once.
const longest = 2 ** 31 - 1;

/**
 * Reads an interval in either spelling components use: a Go duration such as
 * "10s" or "1m30s", or a bare number of milliseconds. The result is in
 * milliseconds, at least 1 and at most about 24.8 days.
 * Throws if the text is neither or not positive.
 */
export function parseInterval(text: string): number {
  const ms = /^\d+$/.test(text) ? Number(text) : goDuration(text);
  if (!(ms > 0)) {
    throw new Error(`"${text}" is no interval such as 10s, 10000ms or 10000`);
  }
  return Math.min(Math.max(Math.round(ms), 1), longest);
}

// goDuration is NaN for anything that is not a sequence of number and unit.
function goDuration(text: string): number {
  let ms = 0;
  let end = 0;
  part.lastIndex = 0;
  for (let m = part.exec(text); m; m = part.exec(text)) {
    ms += Number(m[1]) * units[m[2]!]!;
    end = part.lastIndex;
  }
  return end === text.length ? ms : NaN;
}
