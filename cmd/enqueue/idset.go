package main

import "strconv"

// seenMost is how many ids an idSet holds.
const seenMost = 1_000_000

// idSet tells task ids apart that came before, by 64 bits of their hash: of a million, two share them once in 37 million runs.
// It takes 16 MB at most; what comes when it is full is new to it. Its zero value is empty.
type idSet struct {
	slots []uint64 // a power of two of them; zero is free
	count int
}

// add reports whether the id is new.
func (s *idSet) add(id string) bool {
	key := keyOf(id)
	if len(s.slots) == 0 {
		s.slots = make([]uint64, 1<<10)
	}
	at := s.find(key)
	if s.slots[at] == key {
		return false
	}
	if s.full() {
		return true
	}
	s.slots[at] = key
	if s.count++; 4*s.count > 3*len(s.slots) {
		s.grow()
	}
	return true
}

func (s *idSet) full() bool { return s.count == seenMost }

// find returns where the key is, or belongs.
func (s *idSet) find(key uint64) int {
	mask := len(s.slots) - 1
	at := int(key) & mask
	for s.slots[at] != 0 && s.slots[at] != key {
		at = (at + 1) & mask
	}
	return at
}

func (s *idSet) grow() {
	old := s.slots
	s.slots = make([]uint64, 2*len(old))
	for _, key := range old {
		if key != 0 {
			s.slots[s.find(key)] = key
		}
	}
}

// keyOf is the end of the id's hash.
func keyOf(id string) uint64 {
	key, _ := strconv.ParseUint(id[max(0, len(id)-16):], 16, 64)
	return max(key, 1)
}
