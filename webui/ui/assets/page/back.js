// Where a login provider sends the browser back to. The session's cookie does not come along from
// another site; it does with what this page sends.

const brought = new URLSearchParams(location.search);
const [code, state] = [brought.get("code"), brought.get("state")];
// The code must stay neither in the bar nor in the history.
history.replaceState(null, "", location.pathname);

async function isAccepted() {
  if (!code || !state) return false;
  try {
    const body = JSON.stringify({ code, state });
    return (await fetch("logged-in", { method: "POST", body, headers: { "content-type": "application/json" } })).ok;
  } catch {
    return false;
  }
}

location.replace(`../#gate=${(await isAccepted()) ? "ok" : "refused"}`);
