package transport

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
)

// maxHosts bounds how many hosts of a domain one attempt tries (RFC 5321 5.1 asks for two).
const maxHosts = 8

// hosts finds where mail for a domain goes, best first. A failure is an outcome for all
// recipients.
func (t *Transport) hosts(ctx context.Context, domain string) ([]string, *outcome) {
	if strings.HasPrefix(domain, "[") { // an address literal, RFC 5321 4.1.3
		ip := net.ParseIP(strings.TrimPrefix(strings.Trim(domain, "[]"), "ipv6:"))
		if ip == nil {
			return nil, failed("5.1.2", "malformed address literal")
		}
		return []string{ip.String()}, nil
	}
	mxs, err := t.o.Resolver.LookupMX(ctx, domain)
	if err != nil && len(mxs) == 0 {
		var de *net.DNSError
		if !errors.As(err, &de) || !de.IsNotFound {
			return nil, deferred("4.4.3", "DNS lookup of "+domain+" failed")
		}
		// Without MX the domain itself is the host (RFC 5321 5.1); connecting looks it up.
		return []string{domain}, nil
	}
	if len(mxs) == 1 && strings.TrimSuffix(mxs[0].Host, ".") == "" {
		return nil, failed("5.1.10", domain+" does not accept mail (null MX)") // RFC 7505 3
	}
	mxs = slices.Clone(mxs)
	slices.SortStableFunc(mxs, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	var hosts []string
	for _, mx := range mxs {
		host := strings.TrimSuffix(mx.Host, ".")
		if strings.EqualFold(host, t.o.Hostname) {
			break // we are an MX of it: only better ones may be tried (RFC 5321 5.1)
		}
		if host != "" && len(hosts) < maxHosts {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil, failed("5.4.6", "mail for "+domain+" loops back to this server")
	}
	return hosts, nil
}

// addresses finds the addresses of a host. gone tells that there are and will be none.
func (t *Transport) addresses(
	ctx context.Context, host string,
) (addrs []string, gone bool, err error) {
	if net.ParseIP(host) != nil {
		return []string{host}, false, nil
	}
	addrs, err = t.o.Resolver.LookupHost(ctx, host)
	if err != nil {
		var de *net.DNSError
		return nil, errors.As(err, &de) && de.IsNotFound, err
	}
	return addrs, len(addrs) == 0, nil
}
