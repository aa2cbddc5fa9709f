// Every five seconds, replaces what has changed in the elements marked data-live. The page works
// without it. A status element stays in place, so that screen readers announce its new text.
(() => {
  const parts = [...document.querySelectorAll("[data-live]")]
  if (parts.length < 2) return // a page that changes has more than its outages
  const pause = document.createElement("button")
  pause.type = "button"
  pause.className = "pause"
  pause.textContent = "Pause updates"
  pause.setAttribute("aria-pressed", "false")
  pause.onclick = () => pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") === "false"))
  document.querySelector("h1").after(pause)
  const focusable = "a, button, input"
  const renew = async () => {
    if (document.hidden || pause.getAttribute("aria-pressed") === "true") return
    const outages = document.getElementById("outages")
    try {
      const response = await fetch(location.href)
      if (!response.ok) throw response
      const page = new DOMParser().parseFromString(await response.text(), "text/html")
      for (const part of parts) {
        const next = page.getElementById(part.id)
        if (!next || next.innerHTML === part.innerHTML) continue
        const focus = [...part.querySelectorAll(focusable)].indexOf(document.activeElement)
        part.className = next.className
        part.replaceChildren(...next.childNodes)
        if (focus >= 0) part.querySelectorAll(focusable)[focus]?.focus({ preventScroll: true })
      }
    } catch {
      const text = "The console does not answer. This page shows what it said last."
      if (outages.textContent !== text) outages.textContent = text
    }
  }
  setInterval(renew, 5000)
})()
