/* What the sources of the drop-in share.
 *
 * The drop-in turns libgc's interface into calls of midden's public one; it holds no heap state beyond tables of kinds,
 * mark procedures, root ranges and threads, and the variables that programs read and write.  A running collection
 * reaches the program through a few callbacks that are handed to midden, by start.c but for the last:
 *
 *   event callback   collect.c   variables that programs write, the start callback, collection events, figures
 *   root callback    mark.c      GC_push_other_roots; spawn.c: results of threads not yet joined; toggleref.c
 *   trace functions  mark.c      objects of kinds with descriptors
 *   notify           finalize.c  finalizers are ready
 *   out of memory    report.c    GC_oom_fn
 *   module filter    roots.c     GC_register_has_static_roots_callback
 *
 * Each of them reads the variable that names the program's function at the time of the call.
 *
 * Locking: the tables change inside midden_locked_call, which may be nested and which no collection runs beside.  A lock
 * of the drop-in's own for them would be taken before midden's by some and after it by others (a program may make a kind inside
 * GC_call_with_alloc_lock), and could be lost in a fork.  The one there is, libgc's allocator lock, is the program's to take. */
#ifndef LIBGC_SHIM_H
#define LIBGC_SHIM_H

#ifndef GC_BUILD
#define GC_BUILD
#endif
#ifndef GC_THREADS
#define GC_THREADS
#endif
#include "gc/gc.h"
#include "gc/gc_inline.h"
#include "gc/gc_mark.h"
#include "midden/midden.h"

/* For what libgc exports without declaring it in a public header. */
#define SHIM_EXPORT extern __attribute__((visibility("default")))

#define SHIM_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

/* ---- config.c ---- */

/* Growth of the heap between collections, in percent, that a GC_free_space_divisor asks for. */
int config_percent(GC_word divisor);

/* Makes midden follow GC_dont_gc, GC_free_space_divisor, GC_no_dls and GC_stackbottom where a program wrote them. */
void config_follow_variables(void);

/* The main thread's base goes by way of its variable, so that both agree.  By the main thread. */
void config_set_stack_bottom(void *bottom);

/* ---- environment.c ---- */

/* Sets variables and midden's options by the GC_* environment variables. */
void environment_read(struct midden_options *options);

/* Lets the environment win over what the program set before its first GC_init. */
void environment_overrule(void);

/* ---- collect.c ---- */

void collect_on_event(enum midden_event event, void *unused);

/* Calls GC_on_heap_resize if the heap grew since the last call. */
void collect_tell_resize(void);

/* Figures as of the end of the last collection. */
struct collect_snapshot {
  uint64_t allocated;        /* ever, until then */
  uint64_t freed_explicitly; /* ever, until then */
  uint64_t reclaimed;        /* ever, before that collection */
  uint64_t reclaimed_last;   /* by that collection */
};
struct collect_snapshot collect_last(void);

/* ---- finalize.c ---- */

void finalize_notify(void *unused);

/* ---- kinds.c ---- */

/* What a libgc kind is to midden. */
struct kind {
  midden_kind midden;
  GC_word descriptor; /* of its objects */
  int add_size;       /* the object's size is added to it */
  int known_as;       /* the kind that the program is told: one of libgc's may be two here */
};

/* GC_get_kind_and_size and clients rely on these numbers. */
enum {
  KIND_PTRFREE,
  KIND_NORMAL,
  KIND_UNCOLLECTABLE,
  KIND_ATOMIC_UNCOLLECTABLE,
  KIND_TYPED,
  KIND_TYPED_ARRAY,
  KIND_TYPED_CALLED, /* their descriptors lead to mark procedures of the program */
  KIND_TYPED_ARRAY_CALLED,
  KIND_FIRST_FREE
};
enum { KINDS_MAX = 48 };

/* Makes the kinds that every program has.  Called once, before other calls. */
void kinds_init(void);

/* GC_new_kind; whether descriptors of objects may lead to mark procedures of the program. */
unsigned kinds_new(GC_word descriptor, int add_size, int clear, bool calls);

/* Tells the program the second kind where an object is of the first; before there are objects of it. */
void kinds_know_as(int kind, int known_as);

/* The midden kind of a libgc kind; ends the process for a number that was never given out. */
midden_kind kinds_to_midden(int kind);

/* ---- mark.c ---- */

/* Index of the mark procedure for bitmaps too long for a descriptor: out of the way of GC_new_proc. */
enum { MARK_PROC_LONG_BITMAP = GC_MAX_MARK_PROCS - 1 };

/* Defines the mark procedure of an index that is reserved, or was given out; any other ends the process. */
void mark_set_proc(unsigned index, GC_mark_proc procedure);

/* Whether a descriptor leads to a mark procedure of the program, or may. */
bool mark_may_call(GC_word descriptor);

/* Reports what an object with a descriptor refers to. */
void mark_by_descriptor(void *object, GC_word descriptor, struct midden_tracer *tracer);

/* midden_trace_fn of kinds with descriptors; the argument is a struct kind. */
void mark_trace_kind(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *kind);

/* Whether the world is stopped for a collection: from MIDDEN_EVENT_STOPPED to RESUMING. */
void mark_note_stop(bool stopped);

/* midden_root_fn. */
void mark_roots(struct midden_tracer *tracer, void *unused);

/* The default of GC_push_other_roots: midden finds threads by itself, there is nothing to add. */
void mark_push_no_roots(void);
SHIM_EXPORT GC_push_other_roots_proc GC_push_other_roots;

/* ---- typed.c ---- */

void typed_trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *unused);
void typed_array_trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *unused);
struct GC_ms_entry *typed_mark_long_bitmap(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                           GC_word env);

/* ---- threads.c, spawn.c, toggleref.c ---- */

/* Called once. */
void threads_init(void);

/* Whether the calling thread is the process's first. */
int threads_in_main(void);

/* Report results of threads not yet joined; strong toggle references. */
void spawn_trace_results(struct midden_tracer *tracer);
void toggleref_trace(struct midden_tracer *tracer);

/* Asks the program about its toggle references, at the start of a collection. */
void toggleref_update(void);

/* ---- report.c ---- */

/* A message for the program's GC_warn_proc; `format` takes one GC_word. */
void report_warning(const char *format, GC_word argument);

/* Ends the process with a message, after GC_on_abort heard it. */
_Noreturn void report_fatal(const char *message);

void *report_out_of_memory(size_t bytes);

SHIM_EXPORT GC_abort_func GC_on_abort;
SHIM_EXPORT void GC_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
SHIM_EXPORT void GC_err_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
SHIM_EXPORT void GC_log_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
