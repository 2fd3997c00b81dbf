/** A pasted history: one visit a line, or the JSON of a request. */

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/**
 * Visits, each `{ started, pages }`, oldest first. Those without a time get one: a visit every second day, the last one
 * yesterday. Throws an `Error` whose message says what is wrong.
 */
export function parse(text, limits) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error("There is nothing to read yet.");
  const visits = /^[[{]/.test(trimmed) ? fromJson(trimmed) : fromLines(trimmed);
  check(visits, limits);
  const timed = visits.filter((visit) => visit.started !== null).length;
  if (timed === 0) return dated(visits.map((visit) => visit.pages));
  if (timed < visits.length) throw new Error("Some visits have a time and some do not: give all of them one, or none.");
  return visits.sort((a, b) => a.started - b.started);
}

export function dated(sessions, now = new Date()) {
  const last = new Date(now.getTime() - DAY);
  last.setSeconds(0, 0);
  return sessions.map((pages, i) => ({ started: new Date(last.getTime() - 2 * DAY * (sessions.length - 1 - i)), pages }));
}

function fromLines(text) {
  return text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean).map((line) => {
    const words = line.split(/\s+|\s*→\s*/).filter(Boolean);
    const started = /^\d{4}-\d\d-\d\dT/.test(words[0]) ? time(words.shift()) : null;
    return { started, pages: words };
  });
}

function fromJson(text) {
  let read;
  try {
    read = JSON.parse(text);
  } catch {
    throw new Error("This begins like JSON but cannot be read as JSON.");
  }
  if (read.events) throw new Error("These are raw events. Their pages are made by the service: send them to POST /predict as they are.");
  const sessions = Array.isArray(read) ? read : read.sessions;
  if (!Array.isArray(sessions)) throw new Error("There are no sessions in it: an array of visits is needed.");
  return sessions.map((session) => {
    const pages = Array.isArray(session) ? session : session?.pages;
    if (!Array.isArray(pages) || !pages.every((name) => typeof name === "string")) {
      throw new Error("A visit must be an array of page names, or an object with started_at and pages.");
    }
    return { started: session.started_at === undefined ? null : time(session.started_at), pages };
  });
}

function time(text) {
  const read = new Date(text);
  if (Number.isNaN(read.getTime())) throw new Error("A time cannot be read: write it like 2026-11-01T10:00:00Z.");
  return read;
}

function check(visits, limits) {
  const pages = visits.reduce((sum, visit) => sum + visit.pages.length, 0);
  if (visits.some((visit) => !visit.pages.length)) throw new Error("A visit has no pages: leave it out.");
  if (visits.length > limits.sessions_read) throw new Error(`At most ${limits.sessions_read} visits are read: keep the newest.`);
  if (visits.some((visit) => visit.pages.length > limits.session_pages)) throw new Error(`A visit has more than ${limits.session_pages} pages.`);
  if (pages > limits.pages) throw new Error(`Together the visits have more than ${limits.pages} pages: keep the newest.`);
  if (visits.some((visit) => visit.pages.some((name) => !name || [...name].length > limits.page_length))) {
    throw new Error(`A page's name must have 1 to ${limits.page_length} characters.`);
  }
}
