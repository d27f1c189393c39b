package imapd

import (
	"strings"

	"pillarbox/protocol/imap"
	"pillarbox/store"
)

// systemFlags pairs the store's bits with IMAP's names; the last two are keywords there.
var systemFlags = []struct {
	bit  store.Flags
	name imap.Flag
}{
	{store.FlagSeen, imap.Seen},
	{store.FlagAnswered, imap.Answered},
	{store.FlagFlagged, imap.Flagged},
	{store.FlagDeleted, imap.Deleted},
	{store.FlagDraft, imap.Draft},
	{store.FlagForwarded, "$Forwarded"},
	{store.FlagMDNSent, "$MDNSent"},
}

// flagsOf makes IMAP's list of a message's flags.
func flagsOf(f store.Flags, keywords []string) []imap.Flag {
	var out []imap.Flag
	for _, s := range systemFlags {
		if f&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	for _, k := range keywords {
		out = append(out, imap.Flag(k))
	}
	return out
}

// allFlags is the list of a folder: the system's and the keywords in use.
func allFlags(keywords []string) []imap.Flag {
	out := flagsOf(^store.Flags(0), nil)
	for _, k := range keywords {
		out = append(out, imap.Flag(k))
	}
	return out
}

// splitFlags divides IMAP's flags into the store's bits and keywords.
func splitFlags(flags []imap.Flag) (bits store.Flags, keywords []string) {
next:
	for _, f := range flags {
		for _, s := range systemFlags {
			if strings.EqualFold(string(f), string(s.name)) {
				bits |= s.bit
				continue next
			}
		}
		// Other names with a backslash, \Recent among them, cannot be set by a client.
		if !strings.HasPrefix(string(f), `\`) {
			keywords = append(keywords, string(f))
		}
	}
	return bits, keywords
}
