// Package browsertest drives a browser in tests: Chromium without a window, by the Chrome DevTools Protocol over a pipe
// (chromedevtools.github.io/devtools-protocol; with --remote-debugging-pipe it reads from file descriptor 3 and writes to
// 4, each message ends with a zero byte).
//
// [Start] starts one with an empty page. What a person does is done with the mouse and the keyboard, so that a field that
// is covered or a button that is off does not work here, either.
package browsertest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Browser is a running Chromium with one page.
type Browser struct {
	t       *testing.T
	to      *os.File
	session string
	answers chan answer
	asked   int

	mu       sync.Mutex
	problems []string
}

// message is a command, an answer or an event of the protocol.
type message struct {
	ID      int    `json:"id,omitempty"`
	Session string `json:"sessionId,omitempty"`
	Method  string `json:"method,omitempty"`
	Params  any    `json:"params,omitempty"`
}

type answer struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// object are the parameters of a command.
type object = map[string]any

// patience is how long a page may take for what it is expected to do: others may keep the processors busy, and what it
// waits for may be a machine that asks a server again after a while.
const patience = 2 * time.Minute

// Start starts a browser, behind the words of a command where there are any, and closes it at the end of the test. Of
// servers whose certificate is self-made it trusts those of certificate alone; nil is any. Without Chromium the test is
// skipped.
func Start(t *testing.T, certificate *x509.Certificate, behind ...string) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	home := t.TempDir()
	trust := "--ignore-certificate-errors"
	if certificate != nil {
		sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
		trust += "-spki-list=" + base64.StdEncoding.EncodeToString(sum[:])
	}
	line := append(append([]string{}, behind...), program, "--headless=new", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(home, "profile"), trust,
		"--no-sandbox", // which root cannot have; the pages are our own
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--window-size=1200,800", "about:blank")
	theirs, to, err := os.Pipe()
	check(t, err)
	from, answers, err := os.Pipe()
	check(t, err)
	cmd := exec.Command(line[0], line[1:]...)
	var said bytes.Buffer
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), "HOME="+home), []*os.File{theirs, answers}, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	check(t, cmd.Start())
	_, _ = theirs.Close(), answers.Close() // the child has them
	b := &Browser{t: t, to: to, answers: make(chan answer, 100)}
	ended := make(chan struct{})
	go func() { defer close(ended); b.read(from) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing of it is kept; its children go, too
		_ = cmd.Wait()
		_, _ = to.Close(), from.Close()
		<-ended
		if t.Failed() {
			t.Logf("the browser said: %s", said.String())
		}
	})
	var target struct {
		ID string `json:"targetId"`
	}
	b.do("Target.createTarget", object{"url": "about:blank"}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	b.do("Target.attachToTarget", object{"targetId": target.ID, "flatten": true}, &attached)
	b.session = attached.ID
	b.do("Log.enable", nil, nil)
	b.do("Runtime.enable", nil, nil)
	b.do("Page.enable", nil, nil)
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read takes what the browser says: answers, and the errors of the page.
func (b *Browser) read(from *os.File) {
	defer close(b.answers)
	r := bufio.NewReader(from)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(data[:len(data)-1], &a) != nil {
			continue
		}
		switch {
		case a.ID != 0:
			b.answers <- a
		case a.Method == "Runtime.exceptionThrown", a.Method == "Log.entryAdded" && strings.Contains(string(a.Params), `"level":"error"`):
			b.mu.Lock()
			b.problems = append(b.problems, string(a.Params))
			b.mu.Unlock()
		}
	}
}

// do has a command done.
func (b *Browser) do(method string, params object, result any) {
	b.t.Helper()
	check(b.t, b.try(method, params, result))
}

// try has a command done that may fail, as some do while a page goes and another one comes.
func (b *Browser) try(method string, params object, result any) error {
	b.asked++
	data, err := json.Marshal(message{b.asked, b.session, method, params})
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		return fmt.Errorf("%s: the browser is gone: %w", method, err)
	}
	for end := time.After(patience); ; {
		select {
		case a, ok := <-b.answers:
			switch {
			case !ok:
				return fmt.Errorf("%s: the browser is gone", method)
			case a.ID != b.asked:
			case a.Error != nil:
				return fmt.Errorf("%s: %s", method, a.Error.Message)
			case result != nil:
				return json.Unmarshal(a.Result, result)
			default:
				return nil
			}
		case <-end:
			return fmt.Errorf("%s: the browser does not answer", method)
		}
	}
}

// Open goes to an address.
func (b *Browser) Open(url string) {
	b.t.Helper()
	var result struct {
		Error string `json:"errorText"`
	}
	b.do("Page.navigate", object{"url": url}, &result)
	if result.Error != "" {
		b.t.Fatalf("%s: %s", url, result.Error)
	}
	b.Until(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// value is what an expression of JavaScript is in the page; ok is false where it fails, as it may while a page is loaded.
func (b *Browser) value(expression string, into any) (ok bool) {
	b.t.Helper()
	var result struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	err := b.try("Runtime.evaluate", object{"expression": expression, "returnByValue": true}, &result)
	return err == nil && result.Exception == nil && result.Result.Value != nil && json.Unmarshal(result.Result.Value, into) == nil
}

// Text is all that the page shows.
func (b *Browser) Text() (text string) {
	b.t.Helper()
	b.value("document.body.innerText", &text)
	return text
}

// Source is the page as it is now, with what does not show.
func (b *Browser) Source() (text string) {
	b.t.Helper()
	b.value("document.documentElement.outerHTML", &text)
	return text
}

// See waits until the page shows a text.
func (b *Browser) See(text string) {
	b.t.Helper()
	quoted, err := json.Marshal(text)
	check(b.t, err)
	b.Until("document.body.innerText.includes(" + string(quoted) + ")")
}

// Until waits until an expression of JavaScript is true in the page.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is := false; b.value(expression, &is) && is {
			return
		}
	}
	b.t.Fatalf("it never came to %s; the page shows:\n%s", expression, b.Text())
}

// Click presses the mouse button in the middle of the first element that a CSS selector finds, as soon as there is one, it
// stands still and nothing is above it. A click that hits nothing is made again.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	quoted, err := json.Marshal(selector)
	check(b.t, err)
	find := fmt.Sprintf(`(() => {
		const e = document.querySelector(%s);
		if (!e || document.readyState !== "complete") return null;
		if (e.wasClicked === undefined) e.addEventListener("click", () => { e.wasClicked = true; });
		e.wasClicked = false;
		e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return e.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
	})()`, quoted)
	var before []float64
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var at []float64
		if !b.value(find, &at) || len(at) != 2 || !slices.Equal(at, before) {
			before = at
			continue
		}
		for _, kind := range []string{"mousePressed", "mouseReleased"} {
			b.do("Input.dispatchMouseEvent", object{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
		}
		if missed := false; b.value(fmt.Sprintf("document.querySelector(%s).wasClicked === false", quoted), &missed) && missed {
			continue
		}
		return // otherwise the page may have gone with the click
	}
	b.t.Fatalf("there is no %s that could be clicked on; the page shows:\n%s", selector, b.Text())
}

// Type types a text into a field, behind what is in it, a key at a time.
func (b *Browser) Type(selector, text string) {
	b.t.Helper()
	quoted, err := json.Marshal(selector)
	check(b.t, err)
	b.Click(selector)
	b.Until(fmt.Sprintf("document.activeElement === document.querySelector(%s)", quoted))
	b.do("Input.dispatchKeyEvent", object{"type": "rawKeyDown", "key": "End", "code": "End", "windowsVirtualKeyCode": 35}, nil)
	b.do("Input.dispatchKeyEvent", object{"type": "keyUp", "key": "End", "code": "End", "windowsVirtualKeyCode": 35}, nil)
	for _, r := range text {
		b.do("Input.dispatchKeyEvent", object{"type": "char", "text": string(r)}, nil)
	}
	typed, err := json.Marshal(text)
	check(b.t, err)
	b.Until(fmt.Sprintf("document.querySelector(%s).value.endsWith(%s)", quoted, typed))
}

// Dark has the page know that the person wants it dark, or light.
func (b *Browser) Dark(dark bool) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	b.do("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture is what the page looks like now. It is kept as name.png among the artifacts of the test.
func (b *Browser) Picture(name string) image.Image {
	b.t.Helper()
	var result struct {
		Data []byte `json:"data"` // in base64
	}
	b.do("Page.captureScreenshot", object{"format": "png"}, &result)
	check(b.t, os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+".png"), result.Data, 0o600))
	picture, err := png.Decode(bytes.NewReader(result.Data))
	check(b.t, err)
	return picture
}

// Problems are errors of the page so far: of its scripts, of what it could not load, and of what its policy forbids.
func (b *Browser) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.problems...)
}
