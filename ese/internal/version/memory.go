package version

// memory is where a transaction's changes lie: in blocks, since there are many small ones
// with one life. A block goes to the collector when the last of its changes is forgotten.
type memory struct {
	changes []Change
	block   []byte
}

// Sizes of blocks: they begin small, since most transactions make a handful of changes.
const (
	firstBlock = 256
	lastBlock  = 32 << 10
	maxChanges = 128
)

// change returns a new zero change.
func (m *memory) change() *Change {
	if len(m.changes) == cap(m.changes) {
		m.changes = make([]Change, 0, min(max(4, 2*cap(m.changes)), maxChanges))
	}
	m.changes = m.changes[:len(m.changes)+1]
	return &m.changes[len(m.changes)-1]
}

// bytes returns a copy of b.
func (m *memory) bytes(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if len(b) > cap(m.block)-len(m.block) {
		if len(b) > lastBlock/8 {
			return append([]byte(nil), b...)
		}
		m.block = make([]byte, 0, min(max(firstBlock, 2*cap(m.block), len(b)), lastBlock))
	}
	at := len(m.block)
	m.block = append(m.block, b...)
	return m.block[at:len(m.block):len(m.block)]
}
