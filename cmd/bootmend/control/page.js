// Looks again when the server says that something has changed, but never takes away a field that somebody types in.
"use strict";
const live = document.getElementById("live");
if (live) {
  let again = false;
  const busy = () => [...live.querySelectorAll("input:not([type=hidden])")].some((i) => i.value !== "" || i === document.activeElement);
  const look = async () => {
    again = busy();
    if (again) return;
    const answer = await fetch("/" + location.search, { credentials: "same-origin" });
    if ((!answer.ok && answer.status !== 503) || busy()) { again = true; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["live", "sum"]) {
      const now = page.getElementById(id);
      if (now) document.getElementById(id).innerHTML = now.innerHTML;
    }
    if (!page.getElementById("live")) location.reload();
  };
  new EventSource("/events").onmessage = look;
  setInterval(() => { if (again) look(); }, 2000);
}
