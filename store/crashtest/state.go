package crashtest

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"pillarbox/store"
)

// state is the model: what the mailboxes hold.
type state struct {
	boxes map[byte]map[string]*folder // by mailbox, by folder name
	held  map[store.ContentID]string  // digests of contents that a queue would hold
	kept  map[byte]*kept
}

// kept is what was deleted from a mailbox and can be brought back.
type kept struct {
	hold     bool
	next     store.UID
	messages map[store.UID]deleted
	gone     map[store.FolderID]string // names of folders that are gone
}

// deleted is a message with the folder that it was deleted from.
type deleted struct {
	message
	from store.FolderID
}

func (k *kept) clone() *kept {
	c := *k
	c.messages, c.gone = maps.Clone(k.messages), maps.Clone(k.gone)
	return &c
}

func newKept() *kept {
	return &kept{
		next: 1, messages: make(map[store.UID]deleted), gone: make(map[store.FolderID]string),
	}
}

// drop takes a message out of a folder and keeps it.
func (s *state) drop(n byte, f *folder, uid store.UID) {
	k, m := s.kept[n], f.messages[uid]
	delete(f.messages, uid)
	m.flags &^= store.FlagDeleted
	k.messages[k.next] = deleted{m, f.id}
	k.next++
}

// path is the name of a folder that messages were deleted from.
func (s *state) path(n byte, fid store.FolderID) string {
	for name, f := range s.boxes[n] {
		if f.id == fid {
			return name
		}
	}
	return s.kept[n].gone[fid]
}

// folder is a folder of the model.
type folder struct {
	id       store.FolderID
	validity uint32
	next     store.UID
	cn       store.CN // as last shown; never runs backwards
	messages map[store.UID]message
}

type message struct {
	digest string
	size   int64
	flags  store.Flags
	words  string
	email  store.EmailID
}

func (s *state) clone() *state {
	c := &state{
		boxes: make(map[byte]map[string]*folder), held: maps.Clone(s.held), kept: make(map[byte]*kept),
	}
	for n, k := range s.kept {
		c.kept[n] = k.clone()
	}
	for n, folders := range s.boxes {
		c.boxes[n] = make(map[string]*folder, len(folders))
		for name, f := range folders {
			f2 := *f
			f2.messages = maps.Clone(f.messages)
			c.boxes[n][name] = &f2
		}
	}
	return c
}

// String writes the state so that equal states are equal texts.
func (s *state) String() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(s.boxes)) {
		for _, name := range slices.Sorted(maps.Keys(s.boxes[n])) {
			f := s.boxes[n][name]
			fmt.Fprintf(&b, "box %d %q id %d validity %d next %d cn %d\n",
				n, name, f.id, f.validity, f.next, f.cn)
			for _, uid := range slices.Sorted(maps.Keys(f.messages)) {
				fmt.Fprintf(&b, "  %d %+v\n", uid, f.messages[uid])
			}
		}
		s.keptString(&b, n)
	}
	for _, id := range s.heldIDs() {
		fmt.Fprintf(&b, "held %d %s\n", id.CID, s.held[id])
	}
	return b.String()
}

// keptString writes what a listing shows of what is kept.
func (s *state) keptString(b *strings.Builder, n byte) {
	k := s.kept[n]
	fmt.Fprintf(b, "box %d hold %v\n", n, k.hold)
	for _, id := range slices.Sorted(maps.Keys(k.messages)) {
		m := k.messages[id]
		fmt.Fprintf(b, "  kept %d %q %d %d\n", id, s.path(n, m.from), m.size, m.flags)
	}
}

func (s *state) heldIDs() []store.ContentID {
	return slices.SortedFunc(maps.Keys(s.held), func(a, b store.ContentID) int {
		return cmp.Compare(a.CID, b.CID)
	})
}

func digest(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:6]), nil
}

// read reads the state of a store. Held contents are looked for by the ids of want.
func read(s *store.Store, boxes int, want map[store.ContentID]string) (*state, error) {
	st := &state{
		boxes: make(map[byte]map[string]*folder), held: make(map[store.ContentID]string),
		kept: make(map[byte]*kept),
	}
	for n := range byte(boxes) {
		m, err := s.Mailbox(store.MailboxID{n + 1})
		if err != nil {
			return nil, err
		}
		if st.boxes[n], err = readBox(m); err == nil {
			st.kept[n], err = readKept(m)
		}
		if err != nil {
			return nil, fmt.Errorf("box %d: %w", n, err)
		}
	}
	for id := range want {
		h, err := s.OpenHeld(id)
		if err != nil {
			continue // the comparison will tell
		}
		sum, err := digest(io.NewSectionReader(h, 0, h.Size()))
		if cerr := h.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		st.held[id] = sum
	}
	return st, nil
}

// readKept reads what a mailbox keeps. The paths stand under numbers of their own, which no folder
// has: a listing does not show the folder's.
func readKept(m *store.Mailbox) (*kept, error) {
	k := newKept()
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	k.hold = info.Hold
	for from := store.UID(1); from != 0; {
		var list []store.Recoverable
		if list, from, err = m.Recoverables(from, 3); err != nil {
			return nil, err
		}
		for _, r := range list {
			fid := -store.FolderID(r.ID)
			k.messages[r.ID] = deleted{message{size: r.Size, flags: r.Flags}, fid}
			k.gone[fid] = r.Folder
		}
	}
	if int64(len(k.messages)) != info.Recoverable {
		return nil, fmt.Errorf("%d recoverable messages, %d are shown", info.Recoverable, len(k.messages))
	}
	return k, nil
}

func readBox(m *store.Mailbox) (map[string]*folder, error) {
	list, err := m.Folders()
	if err != nil {
		return nil, err
	}
	folders := make(map[string]*folder)
	for _, f := range list {
		mf := &folder{
			id: f.ID, validity: f.UIDValidity, next: f.UIDNext, cn: f.HighestCN,
			messages: make(map[store.UID]message),
		}
		folders[f.Name] = mf
		if f.NoSelect {
			continue
		}
		for from := store.UID(1); from != 0; {
			var msgs []store.Message
			all := []store.UIDRange{{First: from, Last: ^store.UID(0)}}
			if msgs, from, err = m.Messages(f.ID, all, store.Want{Body: true, Limit: 7}); err != nil {
				return nil, err
			}
			for i := range msgs {
				if err := mf.take(&msgs[i]); err != nil {
					return nil, fmt.Errorf("folder %s uid %d: %w", f.Name, msgs[i].UID, err)
				}
			}
		}
		if int64(len(mf.messages)) != f.Messages {
			return nil, fmt.Errorf("folder %s counts %d messages and shows %d",
				f.Name, f.Messages, len(mf.messages))
		}
	}
	return folders, nil
}

func (f *folder) take(m *store.Message) error {
	sum, err := digest(io.NewSectionReader(m.Body, 0, m.Body.Size()))
	if cerr := m.Body.Close(); err == nil {
		err = cerr
	}
	slices.Sort(m.Keywords)
	f.messages[m.UID] = message{sum, m.Size, m.Flags, strings.Join(m.Keywords, " "), m.EmailID}
	return err
}
