// Package webd serves HTTP: the start page that shows a person how to set up a mail client, the
// certificate of the local authority, and what machines ask (/healthz, /metrics).
//
//	GET /         start page, English or Chinese (?lang=, else Accept-Language)
//	GET /ca.crt   the local authority's certificate, when there is one
//	GET /healthz  200 ok, or 503 with the reason
//	GET /metrics  Prometheus text, to loopback only
//
// Handler is made by New from what package server knows.
//
// Invariants:
//  1. Nothing here changes anything: only GET and HEAD are answered.
//  2. Pages carry a policy that forbids scripts, frames and other origins.
//  3. /metrics never leaves the machine (mail.md 30).
//
// It does not show mail; that is another service.
package webd
