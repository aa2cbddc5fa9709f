// Follows an order that is in flight: asks for its page again after 2, 4, 8 and then every 15
// seconds, and shows what has changed, without a reload that would take the focus or the place
// on the page away. Without scripts, the page has a link to look again.
(() => {
  const longest = 15_000;
  let pause = 2_000;
  let next;

  const parts = (page) => page.querySelectorAll("[data-part]");
  const sent = new Map([...parts(document)].map((part) => [part.dataset.part, part.innerHTML]));

  function show(fresh) {
    const by = new Map([...parts(fresh)].map((part) => [part.dataset.part, part]));
    for (const old of parts(document)) {
      const now = by.get(old.dataset.part);
      const html = now ? now.innerHTML : "";
      // Compare with what the shop sent: a script may have written a message into the page.
      if (sent.get(old.dataset.part) !== html) old.innerHTML = html;
      sent.set(old.dataset.part, html);
      if (now) old.className = now.className;
    }
    document.title = fresh.title;
    document.dispatchEvent(new Event("order-shown"));
  }

  async function look() {
    clearTimeout(next);
    let follow = true;
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (parts(fresh).length > 0) {
          show(fresh);
          follow = fresh.querySelector("[data-follow]") !== null;
        }
      } catch {
        // The network is away: look again later.
      }
    }
    if (follow) wait();
    else note.hidden = true;
  }

  function wait() {
    clearTimeout(next);
    next = setTimeout(look, pause);
    pause = Math.min(pause * 2, longest);
  }

  const note = document.getElementById("follows");
  note.hidden = false;
  document.addEventListener("order-changed", look);
  wait();
})();
