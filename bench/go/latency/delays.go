package main

import (
	"fmt"
	"math"
	"math/bits"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// The delays of one goroutine: bench/worker/delays.h and histogram.h in Go, classes and all.

const (
	delayNs       = 10000
	delayLookNs   = 1000000
	subBits       = 5
	subs          = 1 << subBits
	rusageThread  = 1
	threadCPUTime = 3
)

const (
	waited = iota
	worked
	descheduled
	classes
)

type histogram struct {
	total, longest uint64
	counts         [64 * subs]uint64
}

func bucket(ns uint64) int {
	if ns < subs {
		return int(ns)
	}
	shift := uint(bits.Len64(ns) - 1 - subBits)
	return int(shift+1)*subs + int(ns>>shift&(subs-1))
}

func bucketFloor(bucket int) uint64 {
	if bucket < subs {
		return uint64(bucket)
	}
	return uint64(subs+bucket%subs) << (bucket/subs - 1)
}

func (h *histogram) add(ns uint64) {
	h.counts[bucket(ns)]++
	h.total++
	if ns > h.longest {
		h.longest = ns
	}
}

func (h *histogram) merge(from *histogram) {
	for i, count := range from.counts {
		h.counts[i] += count
	}
	h.total += from.total
	if from.longest > h.longest {
		h.longest = from.longest
	}
}

func (h *histogram) quantileUs(fraction float64) float64 {
	wanted, seen := uint64(fraction*float64(h.total)), uint64(0)
	for i, count := range h.counts {
		seen += count
		if seen > wanted {
			return float64(bucketFloor(i)) / 1e3
		}
	}
	return float64(h.longest) / 1e3
}

var tails = []struct {
	name  string
	limit float64 // ns
}{{"10us", 1e4}, {"30us", 3e4}, {"100us", 1e5}, {"300us", 3e5}, {"1ms", 1e6}, {"3ms", 3e6}, {"10ms", 1e7}, {"30ms", 3e7},
	{"100ms", 1e8}, {"300ms", 3e8}}

func (h *histogram) reportTails(prefix string) {
	for _, tail := range tails {
		count := uint64(0)
		for i, here := range h.counts {
			if float64(bucketFloor(i)) >= tail.limit {
				count += here
			}
		}
		resultNumber(prefix+"_"+tail.name, float64(count))
	}
}

func (h *histogram) report(prefix string, total uint64) {
	resultNumber(prefix+"_count", float64(h.total))
	resultNumber(prefix+"_p50_us", h.quantileUs(0.5))
	resultNumber(prefix+"_p99_us", h.quantileUs(0.99))
	resultNumber(prefix+"_p999_us", h.quantileUs(0.999))
	resultNumber(prefix+"_max_us", float64(h.longest)/1e3)
	resultNumber(prefix+"_total_ms", float64(total)/1e6)
}

type threadTimes struct {
	wall                           int64
	cpu, queued                    uint64
	voluntary, involuntary, faults int64
}

type delays struct {
	at         int64
	operations int64
	normal     uint64
	last       threadTimes
	locked     bool
	schedstat  int // file descriptor, or -1

	all, delays, caused, net histogram
	count, total             [classes]uint64
	sum, causedSum, netSum   uint64
	faulted, faultedSum      uint64
}

var origin = time.Now()

func clock() int64 { return int64(time.Since(origin)) }

// "CPU QUEUED SLICES" in nanoseconds.
func (d *delays) readQueued() uint64 {
	var text [64]byte
	if d.schedstat < 0 {
		return 0
	}
	length, _ := syscall.Pread(d.schedstat, text[:], 0)
	queued, fields := uint64(0), 0
	for i := 0; i < length && fields < 2; i++ {
		if text[i] == ' ' {
			fields++
		} else if fields == 1 {
			queued = queued*10 + uint64(text[i]-'0')
		}
	}
	return queued
}

// Raw calls: the scheduler shall not take them for a chance to switch.
func (d *delays) readTimes() threadTimes {
	if !d.locked {
		return threadTimes{wall: clock()}
	}
	var usage syscall.Rusage
	var cpu syscall.Timespec
	syscall.RawSyscall(syscall.SYS_GETRUSAGE, rusageThread, uintptr(unsafe.Pointer(&usage)), 0)
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadCPUTime, uintptr(unsafe.Pointer(&cpu)), 0)
	return threadTimes{
		queued: d.readQueued(), voluntary: usage.Nvcsw, involuntary: usage.Nivcsw, faults: usage.Minflt,
		cpu: uint64(cpu.Nano()), wall: clock(),
	}
}

func (d *delays) begin(locked bool) {
	d.locked, d.schedstat = locked, -1
	if locked {
		path := fmt.Sprintf("/proc/self/task/%d/schedstat", syscall.Gettid())
		if file, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
			d.schedstat = file
		}
	}
	d.last = d.readTimes()
	d.at = d.last.wall
}

func (d *delays) end() {
	if d.locked && d.schedstat >= 0 {
		syscall.Close(d.schedstat)
	}
}

func (d *delays) mark() int64 {
	now := clock()
	operation := now - d.at
	d.operations++
	if operation > delayNs || now-d.last.wall > delayLookNs {
		return d.look()
	}
	d.all.add(uint64(operation))
	d.at = now
	return now
}

func beyond(value, part uint64) uint64 {
	if value > part {
		return value - part
	}
	return 0
}

func cpuOf(before, now *threadTimes, delay uint64) uint64 {
	cpu := beyond(now.cpu-before.cpu, beyond(uint64(now.wall-before.wall), delay))
	if cpu < delay {
		return cpu
	}
	return delay
}

func classOf(before, now *threadTimes, delay uint64) int {
	switch {
	case now.voluntary != before.voluntary:
		return waited
	case now.involuntary != before.involuntary:
		return descheduled
	case cpuOf(before, now, delay) >= delay/2:
		return worked
	}
	return descheduled
}

func addLong(h *histogram, total *uint64, ns uint64) {
	if ns > delayNs {
		h.add(ns)
		*total += ns
	}
}

func (d *delays) addDelay(now *threadTimes, delay uint64) {
	addLong(&d.delays, &d.sum, delay)
	if !d.locked {
		return
	}
	class := classOf(&d.last, now, delay)
	d.count[class]++
	d.total[class] += delay
	net := beyond(delay, now.queued-d.last.queued)
	caused := beyond(cpuOf(&d.last, now, delay), d.normal)
	if class == waited {
		caused = net
	}
	addLong(&d.caused, &d.causedSum, caused)
	addLong(&d.net, &d.netSum, net)
	if now.faults != d.last.faults {
		d.faulted++
		d.faultedSum += delay
	}
}

func (d *delays) look() int64 {
	end := clock()
	now := d.readTimes()
	for now.wall-end > delayNs {
		end = clock()
		now = d.readTimes()
	}
	operation := uint64(end - d.at)
	d.all.add(operation)
	if operation > delayNs {
		d.addDelay(&now, operation)
	} else {
		d.normal = uint64(now.wall-d.last.wall) / uint64(d.operations)
	}
	d.operations = 0
	d.last = now
	d.at = now.wall
	return now.wall
}

func (d *delays) merge(from *delays) {
	d.all.merge(&from.all)
	d.delays.merge(&from.delays)
	d.caused.merge(&from.caused)
	d.net.merge(&from.net)
	for i := range d.count {
		d.count[i] += from.count[i]
		d.total[i] += from.total[i]
	}
	d.sum += from.sum
	d.causedSum += from.causedSum
	d.netSum += from.netSum
	d.faulted += from.faulted
	d.faultedSum += from.faultedSum
}

func (d *delays) report(locked bool) {
	resultNumber("operation_p50_us", d.all.quantileUs(0.5))
	resultNumber("operation_p999_us", d.all.quantileUs(0.999))
	d.delays.report("delay", d.sum)
	d.delays.reportTails("delays")
	if !locked {
		return
	}
	d.caused.report("caused", d.causedSum)
	d.net.report("net", d.netSum)
	for i, name := range []string{"waited", "worked", "descheduled"} {
		resultNumber(name+"_count", float64(d.count[i]))
		resultNumber(name+"_ms", float64(d.total[i])/1e6)
	}
	resultNumber("faulted_count", float64(d.faulted))
	resultNumber("faulted_ms", float64(d.faultedSum)/1e6)
	d.caused.reportTails("caused")
}

// ---------------------------------------------------------------- the runtime's own account of pauses

func readPauses() *metrics.Float64Histogram {
	samples := []metrics.Sample{{Name: "/gc/pauses:seconds"}}
	metrics.Read(samples)
	if samples[0].Value.Kind() != metrics.KindFloat64Histogram {
		return nil
	}
	pauses := *samples[0].Value.Float64Histogram()
	pauses.Counts = append([]uint64(nil), pauses.Counts...)
	return &pauses
}

func reportPauses(before, after *metrics.Float64Histogram) {
	if before == nil || after == nil {
		return
	}
	longest := 0.0
	for i, count := range after.Counts {
		if count > before.Counts[i] && !math.IsInf(after.Buckets[i], 0) {
			longest = after.Buckets[i]
		}
	}
	resultNumber("pause_max_ms", longest*1e3)
	for _, tail := range tails {
		count := uint64(0)
		for i := range after.Counts {
			if after.Buckets[i]*1e9 >= tail.limit {
				count += after.Counts[i] - before.Counts[i]
			}
		}
		resultNumber("pauses_"+tail.name, float64(count))
	}
}

// ---------------------------------------------------------------- the result line

var line []string

func resultText(name, text string) { line = append(line, fmt.Sprintf("%q:%q", name, text)) }

func resultNumber(name string, value float64) {
	line = append(line, fmt.Sprintf("%q:%.9g", name, value))
}

func resultPrint() { fmt.Println("{" + strings.Join(line, ",") + "}") }
