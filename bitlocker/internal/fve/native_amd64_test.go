package fve

import (
	"testing"
)

// without runs a test as on a processor that lacks some instructions.
func without(t *testing.T, features []*bool, test func(t *testing.T)) {
	t.Helper()
	for _, f := range features {
		was := *f
		*f = false
		defer func() { *f = was }()
	}
	test(t)
}

// TestOlderProcessors runs what this processor would not choose.
func TestOlderProcessors(t *testing.T) {
	t.Run("no SHA, one at a time", func(t *testing.T) { without(t, []*bool{&hasSHA}, TestStretchKinds) })
	t.Run("no SHA", func(t *testing.T) { without(t, []*bool{&hasSHA}, TestStretchJobs) })
	t.Run("no SHA, no AVX2", func(t *testing.T) { without(t, []*bool{&hasSHA, &hasAVX2}, TestStretchJobs) })
	t.Run("no AVX2", func(t *testing.T) { without(t, []*bool{&hasAVX2}, TestCiphers) })
}

func BenchmarkStretchEightLanes(b *testing.B) {
	if !hasAVX2 {
		b.Skip("no AVX2")
	}
	list := jobs(8)
	for b.Loop() {
		m := newLanes8(list)
		m.run(0, StretchRounds)
		m.finish(list)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/stretch")
}
