// Command pillarbox is the mail system: server and administration. One file per verb; what they
// do is in package server.
package main
