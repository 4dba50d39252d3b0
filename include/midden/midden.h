/* midden: a garbage-collected page heap for C.
 *
 * Objects are allocated with midden_alloc and its kin and live for as long as the program can reach them from a root: a
 * thread's stack and registers, thread-local storage, static data, a range given to midden_root_add, an object of a root
 * kind.  An object is reached by any address inside it, and by the address one past its end where that is held in a
 * stack or register (objects of at most 32 bytes that have pointers excepted, and fibers).  Objects never move.
 *
 * Conventions.  Sizes are in bytes.  Functions return 0 or a negative errno, pointers or NULL.  Unless a function says
 * otherwise it may be called by any attached thread at any time, but not from a signal handler, not from a trace
 * function and not from a root callback.  A thread attaches itself by its first call.  "May collect" means that the call
 * can run a collection, which can stop the other threads and run the event callback and the finalizer notification.  Calls that
 * change how the heap is collected, make a kind, stop the world or look at all objects wait for a collection that is under way.
 *
 * Where nothing says what NULL stands for as an argument it is misuse, and faults: a function to be called, a place for a result.
 *
 * Misuse that would corrupt the heap (freeing what is no object, or twice) stops the process with a message that names
 * the address, its span and that span's state. */
#ifndef MIDDEN_MIDDEN_H
#define MIDDEN_MIDDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MIDDEN_API __attribute__((visibility("default")))
#define MIDDEN_ALLOCATES(...) __attribute__((malloc, alloc_size(__VA_ARGS__)))
#define MIDDEN_NORETURN __attribute__((noreturn))
#else
#define MIDDEN_API
#define MIDDEN_ALLOCATES(...)
#define MIDDEN_NORETURN
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MIDDEN_VERSION_MAJOR 0
#define MIDDEN_VERSION_MINOR 1
#define MIDDEN_VERSION_PATCH 0

/* The library's version as major << 16 | minor << 8 | patch. */
MIDDEN_API unsigned midden_version(void);

/* ---------------------------------------------------------------- start */

/* When the heap is marked.  DIRTY is as STW where the system does not tell what was written (Linux from 6.7 on does). */
enum midden_mode {
  MIDDEN_MODE_AUTO,    /* the library's choice: STW */
  MIDDEN_MODE_STW,     /* stop the world for the whole mark phase, mark in parallel */
  MIDDEN_MODE_BARRIER, /* mark while the program runs; it stores pointers through midden_store (midden/barrier.h) */
  MIDDEN_MODE_DIRTY    /* mark while any program runs, then stop it for what its page tables say it has written */
};

/* In modes DIRTY and BARRIER collections may be minor ones: these mark only what was allocated since the last collection, and what
 * was written, or stored through the barrier, in older objects.  What died of the older ones waits for a full collection, which
 * comes when the survivors of minor ones have taken half of the room to grow, after 64 minor ones, and by midden_collect.  Under a
 * memory limit all are full. */
enum midden_generations {
  MIDDEN_GENERATIONS_AUTO,  /* where they took less of the processor than full ones */
  MIDDEN_GENERATIONS_OFF,   /* all are full */
  MIDDEN_GENERATIONS_ALWAYS /* whatever they take */
};

enum midden_debug {
  MIDDEN_DEBUG_VERIFY = 1, /* walk every structure and its invariants after each collection */
  MIDDEN_DEBUG_POISON = 2, /* fill freed slots with 0xdf, and stop the process where one was written to; with REDZONE */
  MIDDEN_DEBUG_STRESS = 4, /* collect at every stress_interval-th allocation */
  /* Put a zone behind each object, and stop the process where one was written to: found when the object is freed or
   * collected, and by midden_verify.  midden_size gives exactly the size asked for, midden_realloc always moves. */
  MIDDEN_DEBUG_REDZONE = 8,
  /* Tell no memory checker (AddressSanitizer, MemorySanitizer, Valgrind) of objects.  They are told by default where one is
   * there, and objects are guarded as by REDZONE then. */
  MIDDEN_DEBUG_NO_TOOLS = 16,
  /* After each mark mark again with the world stopped, and stop the process where that reaches an object that the first
   * missed, naming the word that refers to it and the path there: a store without midden_store. */
  MIDDEN_DEBUG_CHECK = 32
};

/* Zero in any field but `size` stands for the default.  Every option is also an environment variable, which wins:
 * MIDDEN_MODE, MIDDEN_PERCENT, MIDDEN_MEMORY_LIMIT, MIDDEN_MARKERS, MIDDEN_TRACE, MIDDEN_DEBUG and the rest of the table
 * in docs/options.md. */
struct midden_options {
  size_t size;           /* sizeof(struct midden_options), for later versions */
  enum midden_mode mode; /* default AUTO */
  int percent;           /* heap growth before the next cycle, in percent of the live heap; default 100; -1: never */
  size_t memory_limit_bytes; /* soft: the collector runs as often as it must to stay below; default none */
  size_t max_heap_bytes;     /* hard: the heap's pages never pass this, allocations fail instead; default none */
  size_t min_heap_bytes;     /* no cycle starts below this heap size; default 4 MiB */
  size_t initial_heap_bytes; /* no first cycle starts below this heap size; default min_heap_bytes */
  unsigned markers;          /* threads that mark, the collecting one included; default the processors, at most 8 */
  int suspend_signal;        /* the signal that stops a thread; default SIGURG on Linux */
  unsigned debug;            /* enum midden_debug, or'ed */
  unsigned stress_interval;  /* default 1000 */
  unsigned trace;            /* 1: a line on standard error for each collection */
  bool ignore_modules;       /* static data of loaded objects is no root */
  bool small_pages;          /* no advice to use huge pages once the heap is large */
  int background;            /* 1: a thread of the library's own sweeps behind the program; -1: none; default 1 */
  const char *trace_file;    /* a file of JSON trace events, see docs/trace.md; copied; default none */
  int scavenge_after_ms;     /* unused memory goes back after this time, whatever the goal; default 300000; -1: never */
  int idle_collect_ms;       /* after this time without allocation a thread of the library collects; default 1000; -1:
                                never.  Finalizer notifications and events may then come in that thread */
  /* A heap profile from the start, by the distance of midden_profile_start; default none, but 512 KiB with a profile_file:
   * there it is written when the process exits (path copied; default none).  A fork's child adds its process number. */
  size_t profile_sample_bytes;
  const char *profile_file;
  enum midden_generations generations; /* default AUTO */
  /* Mode DIRTY: a heap that is expected to be marked in so many microseconds is marked in one stop, which costs the program
   * less than marking beside it; default 1000; -1: none is.  Where marking beside it delays the program by more than a third
   * of that, or has not been tried, the limit is three times the delay: at most three times as high, or five times where a
   * thread would rest for as long.  Where a page fault takes many times what it should (4 us and more), as on some virtual
   * machines, the limit is what faults take that such marking brings about, at most ten times as high. */
  int brief_stop_us;
};

/* Starts the library.  Called at most once, by the main thread before others exist; without it the first other call
 * starts it with the defaults, and stops the process where there is no memory for that.  0; -EALREADY when started
 * already (the options are not applied); -EINVAL for an option out of range; -ENOMEM. */
MIDDEN_API int midden_init(const struct midden_options *options);

/* ---------------------------------------------------------------- threads */

/* Attaches the calling thread: it may allocate, and its stack, registers and thread-local storage are roots.  Done by
 * the thread's first call of nearly anything here.  0 (also when it was attached); -ENOMEM; -errno where the thread's
 * stack cannot be found. */
MIDDEN_API int midden_thread_attach(void);

/* The same, for a thread whose stack the caller knows: `stack_base` is its highest address that may hold pointers, or NULL, for
 * what midden_thread_attach finds. */
MIDDEN_API int midden_thread_attach_at(void *stack_base);

/* Detaches the calling thread, which may not use the heap until it attaches again.  Done by itself when a thread ends.  Not
 * inside midden_locked_call, midden_blocking_call or a stop by hand.  0; -ESRCH where it was not attached; -EBUSY on a fiber
 * or a stack that midden_stack_switch_begin switched to. */
MIDDEN_API int midden_thread_detach(void);

MIDDEN_API bool midden_thread_is_attached(void);

/* Moves the base of the calling thread's stack: for coroutines that run on the calling thread with stacks of their own.  The
 * stack in use is scanned from the stack pointer to this address; stacks not in use are the program's to report, by
 * midden_root_add or a root callback.  Not in barrier mode. */
MIDDEN_API void midden_thread_set_stack_base(void *stack_base);

/* The base as it is now: what was set last, or the end of the thread's stack. */
MIDDEN_API void *midden_thread_stack_base(void);

/* What names the calling thread to the next function. */
MIDDEN_API void *midden_thread_self(void);

/* Moves the base of any thread's stack, in a root callback alone, where the world is stopped: for coroutines that move from
 * thread to thread, whose scheduler says before each marking where they are.  A thread of which that was said is scanned after
 * the callback.  0; -ESRCH where there is no such thread (any more); -EPERM elsewhere. */
MIDDEN_API int midden_thread_set_stack_base_of(void *thread, void *stack_base);

/* Between enter and leave the calling thread counts as stopped: a collection neither waits for it nor signals it.  It
 * must not touch the heap.  Its registers and its stack up to the call of enter are scanned as they were then.  Leave
 * waits while the world is stopped.  They nest only by way of midden_active_call.  A thread may end in between, or be
 * cancelled.  One that ends by the system call itself, of which the C library does not know, is missed by the next collection, or
 * later where a new thread has its number: until then its stack must stay. */
MIDDEN_API void midden_blocking_enter(void);
MIDDEN_API void midden_blocking_leave(void);

/* Calls `function` between enter and leave; returns what it returns. */
MIDDEN_API void *midden_blocking_call(void *(*function)(void *argument), void *argument);

/* Inside midden_blocking_call: calls `function`, which may use the heap.  Elsewhere just calls it. */
MIDDEN_API void *midden_active_call(void *(*function)(void *argument), void *argument);

/* Stops every other attached thread until the calling one resumes them.  Meanwhile it may use nothing of the C library that
 * takes locks, and no collection runs.  Not nested: a second stop stops the process. */
MIDDEN_API void midden_world_stop(void);
MIDDEN_API void midden_world_resume(void);

/* Calls `function` while no collection and no other caller of this function runs.  May be nested; everything may be called
 * inside but fibers and midden_dispatcher_stop, and no collection comes of it.  The caller is not stopped on its way out of the
 * outermost such call, nor, for a moment, in the function that called it: what that stores at once is stored, in all but the
 * rarest cases, before a trace function looks. */
MIDDEN_API void *midden_locked_call(void *(*function)(void *argument), void *argument);

/* The number of the signal that stops a thread; without a choice, SIGPWR where SIGURG had a handler at the start.  The library's
 * handler stays in its place: one that the program installs is called after it, with all signals blocked, for signals that come
 * from the kernel or another process. */
MIDDEN_API int midden_suspend_signal(void);

/* Chooses another, as long as no other thread is attached.  0; -EBUSY where one is; -EINVAL for what is no signal that can be
 * handled, and for those of faults (SIGSEGV and its kin). */
MIDDEN_API int midden_set_suspend_signal(int signal);

/* Bring the heap to rest for a fork: the first before fork(2), waiting for a collection that is under way, then one of the
 * others, in the parent and in the child; elsewhere they stop the process.  The library calls them by itself unless
 * midden_fork_manual(true) was called. */
MIDDEN_API void midden_fork_prepare(void);
MIDDEN_API void midden_fork_parent(void);
MIDDEN_API void midden_fork_child(void);
MIDDEN_API void midden_fork_manual(bool manual);

/* ---------------------------------------------------------------- fibers */

/* A fiber is a function that runs on a stack of its own and can be suspended anywhere in it.  It is an object of the heap:
 * what its stack holds lives as long as it is reachable, or runs, or waits for one that it resumed; a suspended fiber that
 * nobody can reach is reclaimed with its stack and what only that kept.  Nothing on the stack is told: no C++
 * destructor runs.  (A finalizer of the fiber may free what the collector does not know of.)
 *
 * A suspended fiber may be resumed by any attached thread; the first to do so gets it.  Code in it must not keep addresses of
 * thread-local variables (errno is one) across a call that may suspend it.  The stack overflows into a guard page: SIGSEGV.
 * None of these calls is allowed while the thread is blocking, in a callback of the collector or inside midden_locked_call;
 * a call of a function that is given what is no fiber stops the process.  What runs in a finalizer notification must return from
 * it in the same thread. */
struct midden_fiber;
typedef void *midden_fiber_fn(void *argument);

enum midden_fiber_state {
  MIDDEN_FIBER_SUSPENDED, /* may be resumed */
  MIDDEN_FIBER_RUNNING,   /* on some thread */
  MIDDEN_FIBER_WAITING,   /* for a fiber that it resumed */
  MIDDEN_FIBER_FINISHED,  /* or freed */
  MIDDEN_FIBER_LOST       /* its thread ended while it ran or waited, or did so on the other side of a fork */
};

/* A suspended fiber that will call `function(argument)` when it is first resumed, on a stack of at least `stack_bytes`
 * (at least 32 KiB whatever is asked for; 0: 64 KiB).  May collect.  NULL where `function` is NULL or there is no memory. */
MIDDEN_API struct midden_fiber *midden_fiber_new(midden_fiber_fn *function, void *argument, size_t stack_bytes);

/* Runs a suspended fiber on the calling thread, until it suspends or finishes.  `value` is what its midden_fiber_yield
 * returns (nothing sees that of the first call); *result, unless `result` is NULL, receives what it yielded or returned.  0;
 * -EBUSY where it is running or waiting; -EINVAL where it has finished or is NULL; -EOWNERDEAD where it is lost.  Any
 * depth of fibers that resume others. */
MIDDEN_API int midden_fiber_resume(struct midden_fiber *fiber, void *value, void **result);

/* Suspends the calling fiber; whoever resumed it goes on with `value`.  Returns the value that it is resumed with, perhaps
 * on another thread.  Outside a fiber it stops the process. */
MIDDEN_API void *midden_fiber_yield(void *value);

/* Suspends the calling fiber and runs `fiber` in its place: whoever waits for the calling one waits for `fiber` from now on.
 * Returns when the calling fiber is resumed; values and errors as for midden_fiber_resume, which this is outside a fiber. */
MIDDEN_API int midden_fiber_switch(struct midden_fiber *fiber, void *value, void **result);

/* Finishes the calling fiber, as a return from its function does.  `value` goes to whoever waits for it or, where `next` is not
 * NULL, to that fiber, which runs in its place and must be suspended.  Outside a fiber it stops the process. */
MIDDEN_API void midden_fiber_finish(void *value, struct midden_fiber *next) MIDDEN_NORETURN;

/* Frees the stack of a suspended fiber now; it counts as finished.  0, also where it has no stack any more or is NULL;
 * -EBUSY where it is running or waiting. */
MIDDEN_API int midden_fiber_free(struct midden_fiber *fiber);

/* The fiber that runs on the calling thread, or NULL. */
MIDDEN_API struct midden_fiber *midden_fiber_current(void);

/* A snapshot: other threads may resume it meanwhile. */
MIDDEN_API enum midden_fiber_state midden_fiber_state(const struct midden_fiber *fiber);

/* ---------------------------------------------------------------- stacks */

/* Stacks for programs that switch by themselves (swapcontext, a library of coroutines, assembly).  Each is a root until it
 * is freed: while it is parked, from where it was left to its high end; while a thread runs on it, as that thread's. */
struct midden_stack;

/* Memory for a stack of at least `bytes` (as for midden_fiber_new), a guard page below it.  Parked, and holds nothing.
 * Freed ones are used again.  NULL where there is no memory. */
MIDDEN_API struct midden_stack *midden_stack_alloc(size_t bytes);

/* The same for memory of the program's own, [low, high), which must stay until it is freed here.  It may lie in an object
 * of the heap, which this does not keep alive.  NULL where that is empty or there is no memory. */
MIDDEN_API struct midden_stack *midden_stack_register(void *low, void *high);

/* Frees a parked stack, or forgets it where the memory is the program's; it is not used again.  0, also for NULL; -EBUSY where
 * a thread runs on it.  One on which a thread has ended is parked, and holds nothing; so is, in the child of a fork, one on
 * which another ran. */
MIDDEN_API int midden_stack_free(struct midden_stack *stack);

/* The lowest byte, and one past the last. */
MIDDEN_API void *midden_stack_low(const struct midden_stack *stack);
MIDDEN_API void *midden_stack_high(const struct midden_stack *stack);

/* Says where the used part of a parked stack begins: low <= pointer <= high, and high for nothing.  0; -EINVAL; -EBUSY
 * where a thread runs on it. */
MIDDEN_API int midden_stack_set_pointer(struct midden_stack *stack, void *pointer);

/* Around a switch.  Begin is called on `from`, by the function that then switches, and end on `to`, right after; NULL stands
 * for the thread's own stack.  In between the thread is not stopped and may call nothing here.  What `from` holds is
 * scanned from 1 KiB below the caller's frame, in which the switch must have saved the registers, and the registers are
 * scanned as they were at begin.  Not in fibers; a stack that is not parked, or not the one in use, stops the process. */
MIDDEN_API void midden_stack_switch_begin(struct midden_stack *from, struct midden_stack *to);
MIDDEN_API void midden_stack_switch_end(void);

/* ---------------------------------------------------------------- kinds */

/* How the collector reads an object.  Objects of different kinds lie in different spans. */
typedef unsigned midden_kind;
enum {
  MIDDEN_DATA,         /* no pointers, zeroed */
  MIDDEN_CONSERVATIVE, /* every aligned word may be a pointer, zeroed */
  MIDDEN_TYPED,        /* by struct midden_type; only through midden_alloc_type and midden_alloc_array */
  MIDDEN_RAW,          /* no pointers, not zeroed */
  MIDDEN_ROOT,         /* conservative, zeroed; lives until midden_free, and what it reaches lives with it */
  MIDDEN_ROOT_DATA,    /* no pointers, not zeroed; lives until midden_free */
  MIDDEN_KINDS_BUILT_IN
};
enum { MIDDEN_KINDS_MAX = 64 };

struct midden_tracer;

/* Reports what an object refers to, by midden_trace and its kin.  Runs while the world is stopped, on any thread, several
 * at once for different objects; may not allocate, lock or call anything else here.  `object` is the first byte,
 * `slot_bytes` the size that midden_size gives.  Memory that the program never wrote is zero.  May be called several times for an
 * object in a collection, between which, in dirty-page mode, the program runs: what is marked by then (midden_is_marked) may be so
 * by the first call.  There it runs beside the program only where its kind says trace_beside, and an object that midden_free frees
 * while a collection marks may be passed to it as well.
 *
 * In barrier mode it runs while the program does, perhaps on the same object: it reads each word of it once, by an atomic
 * load, relies on nothing that two words say together, and never reaches beyond slot_bytes.  It may find the object not yet
 * filled, in the middle of a change, or just freed by midden_free.  It need not see a value that midden_store is storing. */
typedef void midden_trace_fn(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument);

/* Reports a reference: NULL, and any value that is no address in an object, are passed over. */
MIDDEN_API void midden_trace(struct midden_tracer *tracer, const void *reference);

/* Reports every aligned word of [start, end). */
MIDDEN_API void midden_trace_range(struct midden_tracer *tracer, const void *start, const void *end);

struct midden_kind_options {
  size_t size;            /* sizeof(struct midden_kind_options) */
  const char *name;       /* kept by reference; for messages; NULL: "unnamed" */
  midden_trace_fn *trace; /* NULL: conservative, or nothing where no_pointers */
  void *argument;         /* for trace; conservative root */
  bool no_pointers;
  bool not_zeroed; /* of no effect with a trace function, which may be called before anything is written */
  bool root;       /* objects live until midden_free */
  /* What the trace function reports follows from the words of the object, and from memory that does not change while the object
   * lives.  Then dirty-page mode calls it beside the program, too, by the rules for barrier mode, and a program with many such objects
   * is stopped for no longer than one without.  (Not with debugging modes that guard objects, nor under a sanitizer.) */
  bool trace_beside;
};

/* A new kind; -EINVAL where `options` is NULL, is too short, or has a trace function and no_pointers; -ENOSPC when
 * MIDDEN_KINDS_MAX are in use.  There is no way to take a kind back. */
MIDDEN_API int midden_kind_new(const struct midden_kind_options *options);

/* ---------------------------------------------------------------- allocation */

/* All of these may collect.  Memory is aligned to 16 bytes, that of tiny objects to 8 (midden_alloc_data).  Size 0 gives an
 * object like size 1.  NULL when there is no memory (after collecting and after the out-of-memory handler), none to attach the
 * calling thread either, or the size is beyond the address space. */

/* A conservative object. */
MIDDEN_API void *midden_alloc(size_t bytes) MIDDEN_ALLOCATES(1);

/* An object without pointers.  Objects of at most 8 bytes share a slot with others: midden_base gives the slot, which alone can have
 * a finalizer or cleanups, and midden_free leaves it to the collector. */
MIDDEN_API void *midden_alloc_data(size_t bytes) MIDDEN_ALLOCATES(1);

/* An object of a kind (any but MIDDEN_TYPED; that gives NULL). */
MIDDEN_API void *midden_alloc_kind(midden_kind kind, size_t bytes) MIDDEN_ALLOCATES(2);

/* The same, aligned to `alignment` bytes: a power of two, else NULL. */
MIDDEN_API void *midden_alloc_aligned(midden_kind kind, size_t alignment, size_t bytes) MIDDEN_ALLOCATES(3);

/* A conservative object that lives until midden_free. */
MIDDEN_API void *midden_alloc_root(size_t bytes) MIDDEN_ALLOCATES(1);

/* Several objects at once: stores a list of them, linked through their first words with NULL at the end, in *list, and
 * returns how many they are; NULL and 0 where there is no memory.  In conservative kinds the first object keeps the others
 * alive.  In other kinds nothing but the program's own trace functions or roots does, and no collection falls between the
 * making of the list and its storing.  In barrier mode all stores to objects of a list of several go through the functions of
 * midden/barrier.h: others refer to them. */
MIDDEN_API size_t midden_alloc_many(midden_kind kind, size_t bytes, void **list);

/* Where the pointers of an object are. */
struct midden_type {
  const char *name;
  size_t size; /* bytes of one element, a multiple of 8 */
  /* Bit w%64 of word w/64: the element's w-th 8-byte word may hold a reference; bits beyond the last do not count.  NULL: none. */
  const uint64_t *pointers;
  midden_trace_fn *trace; /* called instead of reading `pointers`, once for each element with its size; or NULL */
  void *argument;         /* for trace; not a root */
};

/* An object of a type, or an array of `count` elements.  The type must outlive its objects.  Words that are not pointers
 * are never read by the collector.  NULL, too, where `type` is NULL or its size is 0 or no multiple of 8. */
MIDDEN_API void *midden_alloc_type(const struct midden_type *type);
MIDDEN_API void *midden_alloc_array(const struct midden_type *type, size_t count);

/* Grows or shrinks an object of any kind but MIDDEN_TYPED (that gives NULL, and so do objects of the library's own); what is
 * new reads as zero where the kind is zeroed.  Where it moves the old object is freed as by midden_free, and the new one has
 * neither its finalizer, cleanups and weak links nor an alignment beyond 16 bytes.  NULL object: midden_alloc.  Size 0: frees,
 * returns NULL.  NULL when there is no memory: the object is as it was. */
MIDDEN_API void *midden_realloc(void *object, size_t bytes);

/* Frees an object now; in barrier and dirty-page mode its memory serves again after a collection that is under way.  The
 * program promises that no reference to it is used again.  NULL is let pass; anything else that is not the first byte of a
 * living object stops the process with a message, and so does a fiber.  A finalizer of it does not run; its weak links are
 * cleared, and its cleanups are taken off it. */
MIDDEN_API void midden_free(void *object);

/* Called when memory ran out, after a collection, with the size that was asked for; what it returns, any address, is returned
 * to the caller.  (Not by functions that write to what they allocate: midden_realloc, midden_alloc_many, and those that make
 * objects of the library's own, as fibers and weak references.  They fail.)  NULL restores the default, which returns NULL.
 * It runs in the allocating thread and may use the heap. */
typedef void *midden_out_of_memory_fn(size_t bytes);
MIDDEN_API void midden_set_out_of_memory(midden_out_of_memory_fn *handler);

/* ---------------------------------------------------------------- questions */

/* The first byte of the object that holds an address, or NULL for an address in no living object.  Never collects; any
 * value may be asked about.  A slot that another thread has taken for objects to come counts as an object. */
MIDDEN_API void *midden_base(const void *address);

/* Bytes that the object which holds an address may use, or 0. */
MIDDEN_API size_t midden_size(const void *address);

/* Whether an address lies in a living object. */
MIDDEN_API bool midden_owns(const void *address);

/* The kind of the object that holds an address, or -EINVAL. */
MIDDEN_API int midden_kind_of(const void *address);

/* The addresses between which all objects lie, now and later: *start < object < *end.  Neither is an object's, so that a
 * variable that holds one keeps nothing alive. */
MIDDEN_API void midden_heap_bounds(uintptr_t *start, uintptr_t *end);

/* For trace functions, root callbacks, and event callbacks from MIDDEN_EVENT_STOPPED to MARK_START.  Whether the object that
 * holds an address is marked so far; and marks it, but not what it refers to, which at any other time does nothing.  In an event
 * callback from MARK_END to RESUMING: whether the object lives. */
MIDDEN_API bool midden_is_marked(const void *object);
MIDDEN_API void midden_mark(const void *object);

/* ---------------------------------------------------------------- roots */

/* Makes the aligned words of [start, end) roots.  Ranges may overlap; empty ones are let pass.  0; -EINVAL where end lies
 * before start; -ENOMEM. */
MIDDEN_API int midden_root_add(void *start, void *end);

/* Takes [start, end) out of the ranges that were added.  Beside a mark phase of barrier mode it is read first: what a thread
 * has loaded from it is kept.  Where there is no memory to split a range, nothing of it is taken out. */
MIDDEN_API void midden_root_remove(void *start, void *end);

/* Takes every added range out. */
MIDDEN_API void midden_root_clear(void);

/* Keeps [start, end) from being scanned as static data, for good.  0; -EINVAL where end lies before start; -ENOMEM.  This
 * function and the three below wait in barrier mode until no cycle is under way, as midden_locked_call does. */
MIDDEN_API int midden_root_exclude(void *start, void *end);

/* Whether the static data of loaded objects is a root (it is, unless the option said otherwise). */
MIDDEN_API void midden_root_modules(bool scan);

/* Called for each range of static data of each loaded object (`name` is its path, "" the program's) before that becomes a
 * root; false keeps it out.  The world may be stopped: it takes no lock, and calls nothing here.  Setting one has it asked
 * about everything anew.  NULL for none. */
typedef bool midden_module_filter_fn(const char *name, void *start, size_t bytes);
MIDDEN_API void midden_set_module_filter(midden_module_filter_fn *filter);

/* Called in every mark phase, the world stopped, to report roots of the program's own.  The same rules as for a trace
 * function.  In barrier mode it is called once a mark phase, while the program runs and after every stack was scanned: where it
 * reports from is stored to by midden_store.  One callback; NULL for none. */
typedef void midden_root_fn(struct midden_tracer *tracer, void *argument);
MIDDEN_API void midden_set_root_callback(midden_root_fn *callback, void *argument);

/* ---------------------------------------------------------------- finalizers and weak links */

typedef void midden_finalizer_fn(void *object, void *argument);

/* When a finalizer may run.  An object whose finalizer has run is reclaimed by a later collection, unless the finalizer
 * made it reachable again; to be finalized again it must be registered again. */
enum midden_finalizer_order {
  MIDDEN_FINALIZE_ORDERED,     /* before anything that the object reaches; an object in a cycle is never finalized */
  MIDDEN_FINALIZE_IGNORE_SELF, /* the same, pointers from the object to itself do not count */
  MIDDEN_FINALIZE_UNORDERED,   /* as soon as it is unreachable, in any order */
  MIDDEN_FINALIZE_UNREACHABLE  /* only when no other object's finalization reaches it either */
};

/* Sets, replaces or (function NULL) clears the finalizer of an object; `object` is its first byte.  `argument` is a
 * root until the finalizer has run.  What was there before is stored where old_function and old_argument point, if not
 * NULL.  0; -EINVAL where `object` is not the first byte of a living object; -ENOMEM. */
MIDDEN_API int midden_finalizer_set(void *object, midden_finalizer_fn *function, void *argument,
                                    enum midden_finalizer_order order, midden_finalizer_fn **old_function,
                                    void **old_argument);

typedef void midden_cleanup_fn(void *argument);

/* Adds a cleanup to an object, of which it may have any number; `object` is its first byte.  When the object is
 * unreachable, and no finalizer of it is left to run, its memory is reclaimed and its cleanups become ready in the order
 * in which they were added: they cannot see the object.  `argument` is kept until the cleanup has run; where it refers to
 * the object, directly or through others, the object is never reclaimed and the cleanup never runs (each collection
 * counts such objects: midden_stats.cleanups_stuck).  *handle, if not NULL, then names the cleanup; it is not 0.  0; -EINVAL
 * where `object` is not the first byte of a living object, `function` is NULL or `argument` lies in the object; -ENOMEM. */
MIDDEN_API int midden_cleanup_add(void *object, midden_cleanup_fn *function, void *argument, uint64_t *handle);

/* Takes a cleanup off an object.  0; -ENOENT where the object does not have it (any more); -EINVAL as above. */
MIDDEN_API int midden_cleanup_remove(void *object, uint64_t handle);

/* Runs at most `max` finalizers and cleanups that are ready, in the calling thread; returns how many. */
MIDDEN_API size_t midden_finalizers_run(size_t max);

/* Whether finalizers or cleanups are ready to run. */
MIDDEN_API bool midden_finalizers_ready(void);

/* Makes every finalizer ready, whether its object is reachable or not: for the program's end.  Cleanups are not meant.  Stops the other
 * threads meanwhile, and calls the notification. */
MIDDEN_API void midden_finalizers_ready_all(void);

/* Starts the dispatcher: a thread of the library, attached and with all signals blocked, that runs finalizers and cleanups
 * as they become ready, one at a time, and sleeps otherwise.  Its stack has the default size of threads.  While it runs the
 * notification below is not called.  A fork's child has none until it starts one.  0; -EALREADY where there is one, or one that
 * is being stopped; -EAGAIN or -ENOMEM where the system refuses the thread.  One that finds no memory to attach
 * itself ends at once. */
MIDDEN_API int midden_dispatcher_start(void);

/* Stops the dispatcher and waits until the call that it is in has returned; what is still ready stays in the queue.  0;
 * -ESRCH where there is none; -EDEADLK in the dispatcher itself.  Inside midden_locked_call, and in callbacks, it stops the process. */
MIDDEN_API int midden_dispatcher_stop(void);

/* Called after each collection at whose end finalizers or cleanups are ready, in the thread that collected, with no lock held.
 * In barrier and dirty-page mode, and where the program was idle, that may be one of the library's with a stack of 256 KiB, in
 * which to wake another is better than to run them.
 * One that runs them is called again, inside, for the collections that they cause: how deep that goes is for it to limit.  NULL:
 * nobody is told, and the program asks by midden_finalizers_run. */
typedef void midden_notify_fn(void *argument);
MIDDEN_API void midden_set_finalizer_notify(midden_notify_fn *notify, void *argument);

enum midden_weak_when {
  MIDDEN_WEAK_BEFORE_FINALIZERS, /* cleared when the target is only reachable from finalizers, if at all */
  MIDDEN_WEAK_AFTER_FINALIZERS   /* cleared when the target is reclaimed */
};

/* Makes *link a weak link: the collector stores NULL there when `target` dies.  The word itself is not changed now and
 * may hold the target's address in any disguise; it must lie where the collector does not read it as a pointer.  (In barrier
 * mode the address may be taken from it inside midden_locked_call only.)  The
 * registration ends when it is cleared, or when the object that holds the link dies.  0; -EEXIST where that link is
 * registered (it now follows the new target); -EINVAL for an unaligned link, one that lies in the heap but in no object,
 * or a target that is no object; -ENOMEM. */
MIDDEN_API int midden_weak_link(void **link, const void *target, enum midden_weak_when when);

/* 0, or -ENOENT where the link is not registered. */
MIDDEN_API int midden_weak_unlink(void **link, enum midden_weak_when when);

/* Moves the registration of `from` to `to`; the word is not copied.  0; -ENOENT; -EEXIST where `to` is registered; -EINVAL
 * as above, for `to`; -ENOMEM.  With an error `from` stays registered. */
MIDDEN_API int midden_weak_move(void **from, void **to, enum midden_weak_when when);

/* ---------------------------------------------------------------- weak references, ephemerons, weak tables */

/* All of these are objects: they live while the program refers to them, and are passed as what the functions below
 * returned, their first byte.  Any other pointer is told apart: functions that return an error then return -EINVAL, the
 * others NULL or 0.  Targets and keys may be given by any address inside an object, which is the address handed out again.
 * They count as dead, and these objects are cleared, once they are not reachable, before any finalizer may run that could
 * reach them; and when midden_free frees them.  All threads may call all of these at the same time. */

/* A weak reference: finds its target while that lives, and does not keep it alive. */
struct midden_weak;

/* A weak reference to a target, or to nothing (NULL); each call makes another one.  May collect.  NULL where `target` is
 * in no living object, or there is no memory. */
MIDDEN_API struct midden_weak *midden_weak_new(const void *target);

/* The target, which the caller then holds like any other object; NULL where it died, or there is none. */
MIDDEN_API void *midden_weak_get(const struct midden_weak *weak);

/* Gives a weak reference another target, or none (NULL).  0; -EINVAL where `target` is in no living object; -ENOMEM, when
 * the reference has its old target or none. */
MIDDEN_API int midden_weak_set(struct midden_weak *weak, const void *target);

/* A pair of a key and a value.  The value is kept while both the key and the ephemeron are reachable, and does not keep
 * the key: it may refer to it.  When the key dies both are cleared. */
struct midden_ephemeron;

/* May collect.  `value` may be anything.  NULL where `key` is in no living object, or there is no memory. */
MIDDEN_API struct midden_ephemeron *midden_ephemeron_new(const void *key, const void *value);

/* The key, or the value, which the caller then holds; NULL where the key died. */
MIDDEN_API void *midden_ephemeron_key(const struct midden_ephemeron *ephemeron);
MIDDEN_API void *midden_ephemeron_value(const struct midden_ephemeron *ephemeron);

/* A table from keys, by their address, to values: an ephemeron for each entry.  An entry vanishes with its key; what a
 * value refers to is kept while its key lives, the key itself is not.  It grows and shrinks with its entries. */
struct midden_weak_table;

/* May collect.  NULL where there is no memory. */
MIDDEN_API struct midden_weak_table *midden_weak_table_new(void);

/* The value of a key, NULL where there is no entry. */
MIDDEN_API void *midden_weak_table_get(const struct midden_weak_table *table, const void *key);

/* Enters a key, or replaces its value.  May collect.  0; -EINVAL where `key` is in no living object; -ENOMEM. */
MIDDEN_API int midden_weak_table_set(struct midden_weak_table *table, const void *key, const void *value);

/* 0, or -ENOENT where there is no entry. */
MIDDEN_API int midden_weak_table_remove(struct midden_weak_table *table, const void *key);

/* How many entries there are; takes a time that grows with the table.  May collect. */
MIDDEN_API size_t midden_weak_table_count(struct midden_weak_table *table);

/* Calls `visit` for each entry until it returns false; returns how often.  It may do anything, also to the table: an entry
 * that is there all the time is visited once, one that comes or goes meanwhile at most once. */
typedef bool midden_weak_table_visit_fn(void *key, void *value, void *argument);
MIDDEN_API size_t midden_weak_table_each(struct midden_weak_table *table, midden_weak_table_visit_fn *visit,
                                         void *argument);

/* ---------------------------------------------------------------- collections */

/* A full collection now; when it returns, unreachable objects are reclaimed or their finalizers ready.  Does nothing
 * while collections are disabled.  In mode DIRTY it runs beside other threads; where none runs, and a stop is expected to
 * take no longer than twenty times brief_stop_us, it is one.  Called again at once, it waits first for as long as the last
 * one stopped other threads, a millisecond at most: else they would get nowhere. */
MIDDEN_API void midden_collect(void);

/* The same, given up if `stop` (unless NULL), called once with the world stopped and before anything is marked, returns true.  False if
 * given up; true also while collections are disabled, when nothing is done. */
MIDDEN_API bool midden_collect_unless(bool (*stop)(void *argument), void *argument);

/* Collections are disabled while disable was called more often than enable; an enable too many does nothing.  Except inside
 * midden_locked_call, disable waits until a collection that is under way beside the program is over. */
MIDDEN_API void midden_disable(void);
MIDDEN_API void midden_enable(void);
MIDDEN_API bool midden_is_disabled(void);

/* Change the options of the same names, at once; each returns the value from before.  percent: less than 0 for no collection by
 * growth; 0 for next to no growth.  The two limits: 0 for none.  markers: what is below 1 or above 64 counts as 1 or 64.
 *
 * The memory limit is soft, and on everything that midden holds (`held` in midden_stats): pages in use and idle pages with
 * memory behind them, stacks, metadata.  Setting it below what is held gives idle memory back before this returns.  Under
 * it collections come earlier, and allocations give idle memory back before they take more.  Where that would take the
 * collector more than about half of the process's processor time, the limit yields: memory grows past it, at most to
 * what it would be without a limit.
 *
 * The largest heap is hard, and on the heap's pages: collections begin before they reach it, and an allocation that would
 * pass it fails after collections that found no room. */
MIDDEN_API int midden_set_percent(int percent);
MIDDEN_API size_t midden_set_memory_limit(size_t bytes);
MIDDEN_API size_t midden_set_max_heap(size_t bytes);
MIDDEN_API unsigned midden_set_markers(unsigned markers);

/* Grows the heap by at least `bytes` now; from then on no cycle starts by growth before the heap is full again.  0 or
 * -ENOMEM. */
MIDDEN_API int midden_reserve(size_t bytes);

/* Finishes sweeping and gives all free pages back to the system, now; returns the bytes released.  A thread of the library
 * does that little by little with what the heap will not need soon. */
MIDDEN_API size_t midden_release_memory(void);

enum midden_event {
  MIDDEN_EVENT_START,    /* before anything else; nothing is stopped */
  MIDDEN_EVENT_STOPPING, /* before the world is stopped */
  MIDDEN_EVENT_STOPPED,
  MIDDEN_EVENT_MARK_START, /* the world stopped */
  MIDDEN_EVENT_MARK_END,   /* the world stopped */
  MIDDEN_EVENT_RESUMING,   /* before the world runs again */
  MIDDEN_EVENT_RESUMED,
  MIDDEN_EVENT_SWEEP_START, /* the world runs; sweeping goes on lazily */
  MIDDEN_EVENT_SWEEP_END,
  MIDDEN_EVENT_END
};

/* Called at each step of every collection, in the collecting thread, which is not cancelled meanwhile.  It may not use the heap.  In
 * barrier mode a collection has the steps START, MARK_START, MARK_END, SWEEP_START, SWEEP_END and END, in a thread of the library,
 * and the world runs.  In dirty-page mode the world may be stopped once more before START, for trace functions alone, of which no
 * event tells.  Where the world runs it may fork, and parent and child go on, but for the child of barrier mode: there it is the thread
 * of the library that the child is left with, which may only exec or exit. */
typedef void midden_event_fn(enum midden_event event, void *argument);
MIDDEN_API void midden_set_event_callback(midden_event_fn *callback, void *argument);

/* For event callbacks from STOPPED to RESUMING; elsewhere it does nothing.  Calls `visit` for each thread that this stop has stopped where
 * it ran, with what pthread_self returns there, as a number: none that blocks or waits, and not the collecting one. */
typedef void midden_thread_fn(uintptr_t thread, void *argument);
MIDDEN_API void midden_thread_visit_stopped(midden_thread_fn *visit, void *argument);

/* ---------------------------------------------------------------- figures */

/* Exact when nothing else runs.  While other threads allocate and free, each figure is true of some moment of the call;
 * figures that count what ever happened never run backwards, no more counts as freed than as allocated, and the heap's
 * pages add up: heap_system == heap_in_use + heap_idle + stacks.  Bytes unless the name says otherwise.
 *
 * An object is a slot that was handed out: its bytes are the slot's.  Tiny objects (see midden_alloc_data) share one.  An
 * object that a collection did not mark is freed at the end of its mark phase; its memory is used again later. */
struct midden_stats {
  size_t size;              /* set by the caller: sizeof(struct midden_stats) */
  size_t heap_system;       /* arena handed to the page heap */
  size_t heap_in_use;       /* spans that hold objects */
  size_t heap_idle;         /* free spans */
  size_t heap_released;     /* part of heap_idle that was given back to the system */
  size_t heap_fresh;        /* part of heap_idle that was never touched */
  size_t heap_live;         /* what the pacer steers by: marked by the last collection, plus windows filled since */
  size_t heap_marked;       /* marked by the last collection */
  size_t heap_goal;         /* heap_live at which the next collection starts */
  size_t heap_spans;        /* number of spans that hold objects */
  size_t objects;           /* number of living objects */
  size_t object_bytes;      /* their bytes: allocated - freed */
  size_t scannable_bytes;   /* part of object_bytes in objects that may hold pointers */
  size_t objects_marked;    /* objects marked by the last collection */
  size_t stacks;            /* stack spans */
  size_t stack_spans;       /* their number */
  size_t metadata;          /* all memory beside the arena: the sum of the next seven */
  size_t metadata_spans;    /* span structures */
  size_t metadata_tables;   /* tables beside the arena, as far as they are committed */
  size_t metadata_bits;     /* mark and allocation bits, as far as they are committed */
  size_t metadata_threads;  /* threads and their caches */
  size_t metadata_marking;  /* work buffers, lists of roots */
  size_t metadata_specials; /* finalizers, weak links, the heap profile */
  size_t metadata_other;
  uint64_t allocated;        /* ever */
  uint64_t allocated_large;  /* the part of it that went to large objects */
  uint64_t freed;            /* ever, by collections and by midden_free */
  uint64_t freed_large;      /* the part of it that was large objects */
  uint64_t freed_explicitly; /* the part of it that midden_free freed */
  uint64_t objects_allocated;
  uint64_t objects_allocated_large;
  uint64_t objects_freed;
  uint64_t objects_freed_large;
  uint64_t objects_freed_explicitly;
  uint64_t tiny_allocations; /* objects of at most 8 bytes; a running thread may be one ahead or behind */
  uint64_t collections;
  uint64_t collections_heap; /* by reason: the goal was reached; */
  uint64_t collections_forced;
  uint64_t collections_out_of_memory;
  uint64_t collections_stress;
  uint64_t pause_total_ns; /* the world stopped, all collections; see midden_pauses */
  uint64_t pause_max_ns;
  uint64_t pause_last_ns;
  uint64_t collector_cpu_ns;       /* the sum of the next five */
  uint64_t marking_cpu_ns;         /* of all markers while they mark in parallel */
  uint64_t sweeping_cycle_ns;      /* by collecting threads, around a collection */
  uint64_t sweeping_allocation_ns; /* by threads that look for free slots; estimated: one search in 16 is timed */
  uint64_t sweeping_background_ns; /* by the library's own thread, where there is one */
  uint64_t releasing_ns;           /* giving free pages back to the system */
  uint64_t finalizers_run;
  size_t finalizers_ready; /* cleanups included */
  size_t threads;          /* attached */
  size_t stacks_idle;      /* part of `stacks` that waits for a new fiber or stack */
  size_t stacks_scanned;   /* bytes of all stacks that the last collection read, threads' and others' */
  size_t fibers;           /* with a stack */
  /* Found by the last collection: unreachable objects that reach themselves, and are never finalized. */
  size_t finalizer_cycles;
  uint64_t cleanups_run;
  size_t cleanups_stuck;      /* found by the last collection: objects that their own cleanup's argument keeps */
  size_t held;                /* what the memory limit is on: pages in use, stacks, idle pages with memory, metadata */
  uint64_t released_total;    /* pages given back to the system, ever */
  uint64_t collections_idle;  /* by reason, too: the program had stopped allocating */
  uint64_t limit_yields;      /* collections for the memory limit that were put off: see midden_set_memory_limit */
  uint64_t collections_minor; /* of all, those that took older objects for alive: see midden_generations */
  enum midden_mode mode;      /* in use: STW where DIRTY was asked for and the system has refused it */
  size_t
      freed_waiting; /* given to midden_free while a collection marks beside the program: part of `freed` when it is over */
  uintptr_t finalizer_cycle; /* the address of one of finalizer_cycles, all bits inverted: no reference to it; or 0 */
};

/* Fills *stats, as far as stats->size goes; does nothing where stats is NULL.  Neither collects nor stops a thread, and may be
 * called in an event callback. */
MIDDEN_API void midden_stats(struct midden_stats *stats);

/* The objects of a size class.  allocated - freed == in_use. */
struct midden_class_stats {
  size_t slot_bytes;   /* bytes of an object; 0: of any size */
  size_t spans;        /* number of spans that hold, or held, such objects */
  size_t span_bytes;   /* bytes of those spans */
  size_t in_use;       /* number of living objects */
  size_t in_use_bytes; /* their bytes */
  size_t scannable;    /* number of those that may hold pointers */
  uint64_t allocated;  /* objects, ever */
  uint64_t freed;      /* objects, ever */
};

/* Fills the first `count` elements of `classes`, as many as there are classes; returns how many there are.  The first is
 * that of large objects, the others have slots of growing size.  The sums over all classes are midden_stats' figures, and
 * hold under the same conditions.  NULL counts as an empty array. */
MIDDEN_API size_t midden_stats_classes(struct midden_class_stats *classes, size_t count);

enum { MIDDEN_PAUSE_BUCKETS = 64 };

/* How long the world was stopped, by collections.  The figures fit each other at any time.  In barrier mode, where it never is:
 * how long a thread was occupied at a time with its own stack (handshakes) or with scanning when it allocated (assists). */
struct midden_pauses {
  size_t size; /* set by the caller: sizeof(struct midden_pauses) */
  uint64_t count, total_ns, max_ns, last_ns;
  uint64_t limit_ns[MIDDEN_PAUSE_BUCKETS]; /* where a bucket begins: 0, then from 1000 on by the square root of two */
  uint64_t pauses[MIDDEN_PAUSE_BUCKETS];   /* how many were at least limit_ns[i] and less than limit_ns[i + 1] */
};

/* Fills *pauses, as far as pauses->size goes; does nothing where pauses is NULL. */
MIDDEN_API void midden_pauses(struct midden_pauses *pauses);

/* ---------------------------------------------------------------- the heap profile */

/* The heap profile tells which call stacks allocated what, and what of it is in use.  It is a sample: an object is sampled
 * with a probability that grows with its size, 1 - exp(-bytes / distance), and remembered until it is freed or a
 * collection finds it dead.  What was not sampled costs nothing.  Bytes are the slots'; tiny objects (see
 * midden_alloc_data) count by the slot that they share, under whoever allocated the first.  docs/profile.md says more. */
enum { MIDDEN_PROFILE_DEPTH = 32 }; /* the most frames of a call stack that are kept, the innermost */

/* Begins a profile; the one before is forgotten.  On average one byte in `distance_bytes` is sampled (0: 524288), with 1
 * every object.  Of what other threads had set aside for themselves before, at most 8 KiB of each size and kind or a single
 * object, nothing is sampled.  0; -EALREADY where a profile is running; -EINVAL for more than 1 TiB; -ENOMEM. */
MIDDEN_API int midden_profile_start(size_t distance_bytes);

/* Samples no more.  The profile can still be read, and objects that are in it still die.  0, or -EALREADY where none is
 * running. */
MIDDEN_API int midden_profile_stop(void);

/* The objects of one size that one call stack allocated: allocated and freed, ever since the profile began; what is left is
 * in use, or dead and not yet collected.  Estimates but for the samples themselves. */
struct midden_profile_bucket {
  const uintptr_t *stack; /* return addresses, the innermost frame first; some of the library's own may come first */
  size_t depth;           /* their number */
  size_t object_bytes;    /* of each object */
  uint64_t samples_allocated, samples_freed; /* objects */
  uint64_t objects_allocated, objects_freed;
  uint64_t bytes_allocated, bytes_freed;
};

/* Calls `visit` for each bucket of the latest profile until it returns false; returns how often.  It may do anything.  The
 * figures of a bucket fit each other; buckets may be of different moments, and those that come meanwhile are left out. */
typedef bool midden_profile_visit_fn(const struct midden_profile_bucket *bucket, void *argument);
MIDDEN_API size_t midden_profile_visit(midden_profile_visit_fn *visit, void *argument);

/* Samples of the latest profile that are missing in it, since there was no memory for them. */
MIDDEN_API uint64_t midden_profile_lost(void);

/* Writes the latest profile to a file, which is created or replaced, as text that `pprof` reads.  0; -EINVAL where `path` is
 * NULL or there was no profile; -errno where the file cannot be written. */
MIDDEN_API int midden_profile_write(const char *path);

/* ---------------------------------------------------------------- walks and checks */

/* Calls `visit` for every living object as of the last collection and all allocated since, the world stopped.  The rules
 * of a trace function hold. */
typedef void midden_visit_fn(void *object, size_t slot_bytes, midden_kind kind, void *argument);
MIDDEN_API void midden_each_object(midden_visit_fn *visit, void *argument);

/* Walks every structure of the heap with the world stopped and stops the process if an invariant is broken. */
MIDDEN_API void midden_verify(void);

/* Hears the last message before a fatal error ends the process.  NULL for none. */
MIDDEN_API void midden_set_fatal_hook(void (*hook)(const char *message));

#ifdef __cplusplus
}
#endif

#endif
