package webd

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Options configures a Handler. Setup must be set.
type Options struct {
	// Setup is what the start page tells.
	Setup Setup
	// CA returns the local authority's certificate in PEM form. Default: there is none.
	CA func() ([]byte, error)
	// Health returns why the server cannot work, or nil. Default: it always can.
	Health func() error
	// Metrics writes the counters as Prometheus text. Default: none.
	Metrics func(io.Writer)
	// Logger receives trouble. Default: discard.
	Logger *slog.Logger
}

// Setup is how a mail client is set up.
type Setup struct {
	Domain string
	// Host is the server name for clients. Default: the name the browser came by.
	Host string
	// Ports of the services; 0 where one is not served.
	IMAP, IMAPS, POP3, POP3S, SMTP, Submission, Submissions int
	// HasCA tells that clients must be told to trust the local authority.
	HasCA bool
	// Plaintext tells that this machine may log in without TLS.
	Plaintext bool
}

//go:embed start.html
var startHTML string

// Handler answers HTTP requests.
type Handler struct {
	o    Options
	page *template.Template
	mux  *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// New makes a Handler.
func New(o Options) *Handler {
	if o.Health == nil {
		o.Health = func() error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		o: o, page: template.Must(template.New("start").Parse(startHTML)), mux: http.NewServeMux(),
	}
	h.mux.HandleFunc("GET /{$}", h.start)
	h.mux.HandleFunc("GET /ca.crt", h.ca)
	h.mux.HandleFunc("GET /healthz", h.healthz)
	h.mux.HandleFunc("GET /metrics", h.metrics)
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "+
			"form-action 'none'; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	h.mux.ServeHTTP(w, r)
}

// startData is what the template sees.
type startData struct {
	Setup
	texts
	Lang   string
	Others []language
}

func (h *Handler) start(w http.ResponseWriter, r *http.Request) {
	lang := chooseLanguage(r)
	data := startData{Setup: h.o.Setup, texts: textsOf(lang), Lang: lang}
	if data.Host == "" {
		data.Host = hostOnly(r.Host)
	}
	for _, l := range languages() {
		if l.Tag != lang {
			data.Others = append(data.Others, l)
		}
	}
	var b bytes.Buffer
	if err := h.page.Execute(&b, data); err != nil {
		h.o.Logger.Error("start page failed", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", lang)
	w.Header().Set("Vary", "Accept-Language")
	_, _ = w.Write(b.Bytes())
}

func (h *Handler) ca(w http.ResponseWriter, r *http.Request) {
	if h.o.CA == nil {
		http.NotFound(w, r)
		return
	}
	pem, err := h.o.CA()
	if err != nil {
		h.o.Logger.Error("certificate of the local authority not read", "err", err)
		http.Error(w, "the certificate is not readable", http.StatusInternalServerError)
		return
	}
	// The type makes phones offer to install it.
	w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	w.Header().Set("Content-Disposition", `attachment; filename="pillarbox-ca.crt"`)
	_, _ = w.Write(pem)
}

func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := h.o.Health(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

func (h *Handler) metrics(w http.ResponseWriter, r *http.Request) {
	if h.o.Metrics == nil || !fromLoopback(r) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	h.o.Metrics(w)
}

// fromLoopback looks at both ends and at Host, so that no page of another origin can read the
// answer through a name that resolves to 127.0.0.1.
func fromLoopback(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return false
	}
	host := hostOnly(r.Host)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// hostOnly is a Host field without port and brackets.
func hostOnly(s string) string {
	if h, _, err := net.SplitHostPort(s); err == nil {
		return h
	}
	return strings.Trim(s, "[]")
}
