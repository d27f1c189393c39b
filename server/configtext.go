package server

import (
	"fmt"
	"strings"
)

// configValues are what a new config file is made of.
type configValues struct {
	Hostname   string // default: mail.DOMAIN
	Domain     string
	Quickstart bool
	Listen     ListenConfig
}

// configText is a new config file, with comments for the person who opens it.
func configText(v configValues) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Pillarbox. Every key is described in docs/operating.md; an unknown key is an error.")
	p("# Paths are relative to the folder of this file.")
	p("")
	p("hostname = %q", or(v.Hostname, "mail."+v.Domain))
	p("default_domain = %q", v.Domain)
	p("max_message_bytes = %d", 50<<20)
	if v.Quickstart {
		p("# Networks from which passwords are taken without TLS.")
		p(`plaintext_auth_from = ["127.0.0.0/8", "::1"]`)
	}
	p("")
	p("[listen]")
	for _, a := range v.Listen.services() {
		p("%s = %q", a.service, a.address)
	}
	p("")
	p("[tls]")
	p(`cert = "tls/server.crt"`)
	p(`key = "tls/server.key"`)
	p("# The authority that made it, offered to people on the start page.")
	p(`ca = "tls/ca.crt"`)
	p("")
	p("[outbound]")
	p("# off: mail for other domains waits in the queue. direct or smarthost: it is sent.")
	p(`mode = "off"`)
	p("")
	p("[log]")
	p(`format = "text"`)
	p("")
	p("# The storage group: log files and databases may lie on different disks.")
	p("[[group]]")
	p(`name = "store"`)
	p(`databases = ["priv1.edb"]`)
	return b.String()
}
