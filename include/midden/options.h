/* The options, in one table: field of struct midden_options, environment variable, type, what it may be, help.
 *
 * From it come the parser of the environment, `midden run --help` and docs/options.md.  Types: SIZE takes a number of
 * bytes with an optional suffix K, M, G or T (powers of 1024), or "off", and is at least `low`, so that a floor that is off
 * is not the default, for which 0 stands; COUNT a whole number within
 * [low, high]; SWITCH 1 or 0; PERCENT a whole number or "off"; WORDS words from a list, separated by commas; PATH
 * the name of a file. */
#ifndef MIDDEN_OPTIONS_H
#define MIDDEN_OPTIONS_H

#define MIDDEN_OPTIONS(X)                                                                                              \
  X(mode, "MIDDEN_MODE", WORDS, 0, 0, "auto: stw; the drop-in: dirty",                                                 \
    "stw: stop the world while marking; barrier: mark while the program runs, which stores pointers through "          \
    "midden_store (midden/barrier.h); dirty: mark while any program runs, and stop it for what it has written "        \
    "meanwhile; auto: what the program asks for in midden_init, or else stw")                                          \
  X(percent, "MIDDEN_PERCENT", PERCENT, 1, 100000, "100",                                                              \
    "growth of the heap before the next collection, in percent of what lives; off: collect only when told")            \
  X(memory_limit_bytes, "MIDDEN_MEMORY_LIMIT", SIZE, 0, 0, "off",                                                      \
    "soft limit on all memory: collections come as often as needed to stay below it")                                  \
  X(max_heap_bytes, "MIDDEN_MAX_HEAP", SIZE, 0, 0, "off", "hard limit on the heap: allocations fail beyond it")        \
  X(min_heap_bytes, "MIDDEN_MIN_HEAP", SIZE, 1, 0, "4M", "no collection while less than this is allocated")            \
  X(initial_heap_bytes, "MIDDEN_INITIAL_HEAP", SIZE, 1, 0, "4M", "no first collection before this is allocated")       \
  X(markers, "MIDDEN_MARKERS", COUNT, 1, 64, "processors, at most 8", "threads that mark")                             \
  X(suspend_signal, "MIDDEN_SUSPEND_SIGNAL", COUNT, 1, 64, "SIGURG", "number of the signal that stops a thread")       \
  X(debug, "MIDDEN_DEBUG", WORDS, 0, 0, "none",                                                                        \
    "verify: check every structure after each collection; redzone: put a zone behind each object, and check it; "      \
    "poison: the same, and overwrite freed memory, and check that; stress[:N]: collect at every N-th allocation "      \
    "(1000); check: after each mark mark again with the world stopped, and name what the first mark missed; notools: " \
    "do not tell AddressSanitizer, MemorySanitizer or Valgrind of objects")                                            \
  X(trace, "MIDDEN_TRACE", WORDS, 0, 0, "none",                                                                        \
    "gc: a line on standard error for each collection; file:PATH: a file of trace events for timeline viewers")        \
  X(ignore_modules, "MIDDEN_IGNORE_MODULES", COUNT, 0, 1, "0", "1: static data of loaded objects is no root")          \
  X(small_pages, "MIDDEN_SMALL_PAGES", COUNT, 0, 1, "0", "1: no advice to use huge pages once the heap is large")      \
  X(background, "MIDDEN_BACKGROUND", SWITCH, 0, 1, "1",                                                                \
    "0: no thread of the library's own sweeps and tidies up behind the program")                                       \
  X(scavenge_after_ms, "MIDDEN_SCAVENGE_AFTER", PERCENT, 1, 1000000000, "300000",                                      \
    "milliseconds after which memory that is free and unused goes back to the system, whatever the heap may need; "    \
    "off: never")                                                                                                      \
  X(idle_collect_ms, "MIDDEN_IDLE_COLLECT", PERCENT, 1, 1000000000, "1000; the drop-in: off",                          \
    "milliseconds without allocation after which the library collects by itself, in its own thread; off: never")       \
  X(profile_sample_bytes, "MIDDEN_PROFILE_SAMPLE", SIZE, 0, 0, "off; 512K where MIDDEN_PROFILE_FILE is set",           \
    "heap profile from the start: the mean distance of sampled bytes; 1: every object")                                \
  X(profile_file, "MIDDEN_PROFILE_FILE", PATH, 0, 0, "none",                                                           \
    "where the heap profile is written when the process exits, for pprof")                                             \
  X(generations, "MIDDEN_GENERATIONS", WORDS, 0, 0, "auto",                                                            \
    "barrier and dirty-page mode: auto: minor collections, which leave older objects alone, where they take less of "  \
    "the processor than full ones; off: none; always: whatever they take")                                             \
  X(brief_stop_us, "MIDDEN_BRIEF_STOP", PERCENT, 1, 1000000, "1000",                                                   \
    "dirty-page mode: a heap that is expected to be marked in so many microseconds is marked in one stop, which "      \
    "costs the program less than marking beside it. Where marking beside it delays the program by more than a "        \
    "third of that, or has not been tried, the limit is three times the delay: at most three times as high, or "       \
    "five times where a thread would rest for as long. On virtual machines where a page fault takes 4 us and more "    \
    "it is what the faults take that such marking brings about, at most ten times as high. off: none is")

#endif
