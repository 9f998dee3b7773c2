package netboot

import (
	"net/http"
	"strings"
	"time"
)

// Handler gives the files out over HTTP, ranges of them too. served is told of what a client has
// got; it may be nil.
func (f *Files) Handler(served func(r *http.Request, path string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this server only gives files out", http.StatusMethodNotAllowed)
			return
		}
		data, err := f.open(r.URL.Path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer func() { _ = data.Close() }() // read only: nothing is lost
		kind := "application/octet-stream"
		if strings.HasSuffix(r.URL.Path, ".iso") {
			kind = "application/vnd.efi-iso" // by which firmware knows a disc (UEFI 2.10, section 24.7.3.1)
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// The number changes with the content.
		w.Header().Set("ETag", `"`+f.ID+`"`)
		http.ServeContent(w, r, "", time.Time{}, data)
		if served != nil && r.Method == http.MethodGet && r.Context().Err() == nil {
			served(r, r.URL.Path)
		}
	})
}
