// The workload latency (bench/workloads/latency.c) in Go: the same graph, walk, stores, garbage and replacement, the same
// figures, one result line.  See bench/README.md; the driver calls it as it calls the other workers:
//
//	worker-go info [name=value...]      the engine's name
//	worker-go latency [name=value...]   runs it
//
// A goroutine of mode=default moves between threads, so the kernel cannot be asked where a delay of it went, and the figures
// that need that are missing.  With mode=locked each has a thread of its own, as in C.
package main

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	linkAny      = 2
	linkLeaf     = 3
	steps        = 2
	leafNumber   = ^uint64(0)
	usage        = "usage: worker-go info | latency [name=value...]"
	exitUsage    = 2
	exitNotHere  = 3
	nodeBytes    = 64
	memoryFactor = 2.5
	patience     = 20
	pollMs       = 50
)

type node struct {
	links  [4]*node
	number uint64
	unused [3]uint64
}

var root *node
var measuring, stopping int32
var treeDepth int // levels below the root

var parameters = map[string]string{
	"live": "256M", "mutators": "2", "blocked": "0", "silent": "0", "ms": "5000", "warm": "2", "collections": "3", "garbage": "16",
	"replace": "4",
	"markers": "0", "heap": "0", "mode": "default",
}

func fail(status int, what string) {
	fmt.Fprintln(os.Stderr, "worker-go:", what)
	os.Exit(status)
}

func readParameters(words []string) {
	for _, word := range words {
		name, value, found := strings.Cut(word, "=")
		if _, known := parameters[name]; !known || !found {
			fail(exitUsage, "no such parameter: "+word)
		}
		parameters[name] = value
	}
	if mode := parameters["mode"]; mode != "default" && mode != "locked" {
		fail(exitUsage, "no such mode: "+mode)
	}
}

// A number that may end in K, M or G.
func number(name string) int {
	text, unit := parameters[name], 1
	for i, suffix := range []string{"K", "M", "G"} {
		if strings.HasSuffix(text, suffix) {
			text, unit = strings.TrimSuffix(text, suffix), 1<<(10*(i+1))
		}
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		fail(exitUsage, name+"="+parameters[name]+" is no number")
	}
	return value * unit
}

type random uint64

func (state *random) next() uint64 {
	x := uint64(*state)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*state = random(x)
	return x
}

// ---------------------------------------------------------------- the graph

func buildGraph(nodes int) {
	state := random(88172645463325252)
	index := make([]*node, nodes)
	for i := range index {
		index[i] = &node{number: uint64(i)}
	}
	for i := nodes - 1; i > 0; i-- {
		j := state.next() % uint64(i+1)
		index[i], index[j] = index[j], index[i]
	}
	for i, each := range index {
		if 2*i+1 < nodes {
			each.links[0] = index[2*i+1]
		}
		if 2*i+2 < nodes {
			each.links[1] = index[2*i+2]
		}
		each.links[2] = index[state.next()%uint64(nodes)]
		each.links[3] = index[state.next()%uint64(nodes)]
	}
	root = index[0]
}

func leafNew(target *node) *node {
	leaf := &node{number: leafNumber}
	leaf.links[0] = target
	return leaf
}

func addLeaves(each *node) {
	each.links[linkLeaf] = leafNew(each.links[linkAny])
	for _, below := range each.links[:2] {
		if below != nil {
			addLeaves(below)
		}
	}
}

func build(bytes int) {
	percent := debug.SetGCPercent(-1)
	nodes := bytes / nodeBytes / 2
	treeDepth = bits.Len(uint(nodes)) - 1
	buildGraph(nodes)
	addLeaves(root)
	debug.SetGCPercent(percent)
	runtime.GC()
}

// The sum of all numbers; sees that each node has its leaf.
func sum(each *node) float64 {
	if leaf := each.links[linkLeaf]; leaf.number != leafNumber || leaf.links[0] == nil {
		fail(1, "a leaf is damaged")
	}
	total := float64(each.number)
	for _, below := range each.links[:2] {
		if below != nil {
			total += sum(below)
		}
	}
	return total
}

// ---------------------------------------------------------------- goroutines that work

type walker struct {
	before *node // a node that its last operation found
	random random
}

func find(choice uint64) *node {
	levels := treeDepth - bits.TrailingZeros64(choice|1<<uint(treeDepth))
	each := root
	for i := 0; i < levels; i++ {
		below := each.links[choice>>uint(63-i)&1]
		if below == nil {
			break
		}
		each = below
	}
	return each
}

func wander(each *node) *node {
	for i := 0; i < steps; i++ {
		each = each.links[linkAny]
	}
	return each
}

var sink *node // never written: makes the garbage escape to the heap

func buildGarbage(target *node, count int) *node {
	var list *node
	for i := 0; i < count; i++ {
		fresh := new(node)
		fresh.links[0] = list
		fresh.links[1] = target
		list = fresh
	}
	return list
}

func (w *walker) operate(operation, garbage, replaceEvery int) {
	found := find(w.random.next())
	each := wander(found)
	if list := buildGarbage(found, garbage); operation < 0 {
		sink = list
	}
	each.links[linkAny] = w.before
	if operation%replaceEvery == 0 {
		each.links[linkLeaf] = leafNew(w.before)
	}
	w.before = found
}

func mutate(index int, d *delays) {
	garbage, replaceEvery, locked := number("garbage"), number("replace"), parameters["mode"] == "locked"
	if locked {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	w := walker{root, random(362436069362436069 + index)}
	d.begin(locked)
	measured := false
	for i := 0; atomic.LoadInt32(&stopping) == 0; i++ {
		if !measured && atomic.LoadInt32(&measuring) != 0 {
			d.end()
			*d = delays{}
			d.begin(locked)
			measured = true
		}
		w.operate(i, garbage, replaceEvery)
		d.mark()
	}
}

// Does not stop the world, as runtime.ReadMemStats does.
func collections() int {
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	return int(samples[0].Value.Uint64())
}

// Until the time is over and the collector has done its part.
func sleepUntilDone(ms, wanted int) {
	start := collections()
	time.Sleep(time.Duration(ms) * time.Millisecond)
	for left := ms * patience; left > 0 && collections()-start < wanted; left -= pollMs {
		time.Sleep(pollMs * time.Millisecond)
	}
}

// ---------------------------------------------------------------- goroutines that wait

// Starts them; the function that it returns ends them.
func startWaiters(count int, locked bool) func() {
	var started, ended sync.WaitGroup
	end := make(chan bool)
	wait := func() {
		defer ended.Done()
		if locked {
			runtime.LockOSThread()
		}
		own := leafNew(root)
		started.Done()
		<-end
		if own.number != leafNumber {
			fail(1, "a waiting goroutine lost its object")
		}
	}
	started.Add(count)
	ended.Add(count)
	for i := 0; i < count; i++ {
		go wait()
	}
	started.Wait()
	return func() {
		close(end)
		ended.Wait()
	}
}

// ---------------------------------------------------------------- all of it

func needMemory(bytes float64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return
	}
	for _, line := range strings.Split(string(text), "\n") {
		var kib float64
		if count, _ := fmt.Sscanf(line, "MemAvailable: %f kB", &kib); count == 1 && kib*1024 < bytes {
			fail(exitNotHere, fmt.Sprintf("needs %.0f MiB of memory, %.0f are available: left out", bytes/(1<<20), kib/1024))
		}
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func measure(all []*delays) {
	var before, after runtime.MemStats
	var mutators sync.WaitGroup
	for i := range all {
		mutators.Add(1)
		go func(index int) {
			mutate(index, all[index])
			mutators.Done()
		}(i)
	}
	// What comes before is not measured: the heap grows to its size, which costs page faults.
	sleepUntilDone(number("ms")/4, number("warm"))
	pausesBefore := readPauses()
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), cpuSeconds()
	atomic.StoreInt32(&measuring, 1)
	sleepUntilDone(number("ms"), number("collections"))
	atomic.StoreInt32(&stopping, 1)
	mutators.Wait()
	wall := time.Since(start).Seconds()
	resultNumber("wall_s", wall)
	resultNumber("cpu_s", cpuSeconds()-cpu)
	runtime.ReadMemStats(&after)
	resultNumber("heap_mib", float64(after.HeapSys)/(1<<20))
	resultNumber("collections", float64(after.NumGC-before.NumGC))
	resultNumber("pause_total_ms", float64(after.PauseTotalNs-before.PauseTotalNs)/1e6)
	for _, other := range all[1:] {
		all[0].merge(other)
	}
	resultNumber("ops_per_s", float64(all[0].all.total)/wall)
	all[0].report(parameters["mode"] == "locked")
	reportPauses(pausesBefore, readPauses())
}

func latency() {
	bytes := number("live")
	needMemory(float64(bytes) * memoryFactor)
	all := make([]*delays, number("mutators"))
	for i := range all {
		all[i] = new(delays)
	}
	build(bytes)
	endWaiters := startWaiters(number("blocked")+number("silent"), parameters["mode"] == "locked")
	measure(all)
	endWaiters()
	resultNumber("check", sum(root))
}

func main() {
	if len(os.Args) < 2 {
		fail(exitUsage, usage)
	}
	readParameters(os.Args[2:])
	resultText("engine", runtime.Version())
	resultText("library", "static")
	switch os.Args[1] {
	case "info":
	case "latency":
		latency()
	default:
		fail(exitNotHere, usage)
	}
	resultPrint()
}
