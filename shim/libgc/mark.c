/* Marking with descriptors, mark procedures, and the program's own roots.
 *
 * Everything a program reports ends in midden_trace with the tracer of the callback that is running, which is kept in a
 * thread-local: libgc's GC_push_all and GC_mark_and_push have no argument for it.  Outside of a mark phase there is no
 * tracer and the push functions do nothing.
 *
 * A mark procedure gets a mark stack and may leave entries on it.  The stack is an array on the C stack of
 * mark_by_descriptor, which handles what was left when the procedure returns; GC_mark_and_push reports to midden at
 * once and never needs it. */
#include "shim.h"

GC_push_other_roots_proc GC_push_other_roots = mark_push_no_roots;
void *GC_least_plausible_heap_addr = (void *)~(GC_word)0;
void *GC_greatest_plausible_heap_addr;

static SHIM_THREAD_LOCAL struct midden_tracer *mark_tracer;

/* ---- mark procedures ---- */

/* Written once each, before a descriptor holds the index. */
static GC_mark_proc mark_procs[GC_MAX_MARK_PROCS] = {[MARK_PROC_LONG_BITMAP] = typed_mark_long_bitmap};
static unsigned mark_next_proc = GC_RESERVED_MARK_PROCS; /* atomic */

void mark_set_proc(unsigned index, GC_mark_proc procedure) {
  if (index >= __atomic_load_n(&mark_next_proc, __ATOMIC_RELAXED))
    report_fatal("libgc: a mark procedure's index that was never given out");
  mark_procs[index] = procedure;
}

unsigned GC_new_proc(GC_mark_proc procedure) {
  unsigned index = __atomic_fetch_add(&mark_next_proc, 1, __ATOMIC_RELAXED);
  if (index >= MARK_PROC_LONG_BITMAP) report_fatal("libgc: too many mark procedures");
  mark_procs[index] = procedure;
  return index;
}

unsigned GC_new_proc_inner(GC_mark_proc procedure) { return GC_new_proc(procedure); }

/* ---- descriptors ---- */

/* An entry of the mark stack, as libgc lays it out. */
struct mark_entry {
  GC_word *object;
  GC_word descriptor;
};

enum { MARK_STACK_ENTRIES = 128, MARK_STACK_SLACK = 16 };

static void mark_bitmap(GC_word *word, GC_word descriptor, struct midden_tracer *tracer) {
  for (GC_word bits = descriptor & ~(GC_word)GC_DS_TAGS; bits; bits <<= 1, word++)
    if (bits >> (8 * sizeof(GC_word) - 1)) midden_trace(tracer, (void *)__atomic_load_n(word, __ATOMIC_RELAXED));
}

bool mark_may_call(GC_word descriptor) {
  if ((descriptor & GC_DS_TAGS) == GC_DS_PER_OBJECT) return true;
  return (descriptor & GC_DS_TAGS) == GC_DS_PROC &&
         (descriptor >> GC_DS_TAG_BITS & (GC_MAX_MARK_PROCS - 1)) != MARK_PROC_LONG_BITMAP;
}

/* The descriptor that a GC_DS_PER_OBJECT one leads to; 0 where the object has no type yet. */
static GC_word mark_find_descriptor(GC_word *object, GC_word descriptor) {
  GC_signed_word offset = (GC_signed_word)(descriptor & ~(GC_word)GC_DS_TAGS);
  if (offset >= 0) return __atomic_load_n((GC_word *)((char *)object + offset), __ATOMIC_RELAXED);
  char *type = (char *)__atomic_load_n(&object[0], __ATOMIC_RELAXED);
  if (!type) return 0;
  return *(GC_word *)(type - offset - GC_INDIR_PER_OBJ_BIAS);
}

/* Runs a mark procedure; what it leaves on the stack is above `top`, and the new top is returned. */
static struct mark_entry *mark_run_proc(struct mark_entry entry, struct mark_entry *top, struct mark_entry *limit) {
  GC_word index = entry.descriptor >> GC_DS_TAG_BITS & (GC_MAX_MARK_PROCS - 1);
  GC_word env = entry.descriptor >> (GC_DS_TAG_BITS + GC_LOG_MAX_MARK_PROCS);
  GC_mark_proc procedure = mark_procs[index];
  if (!procedure) return top;
  return (struct mark_entry *)procedure(entry.object, (struct GC_ms_entry *)top, (struct GC_ms_entry *)limit, env);
}

/* Reports by a descriptor that leads to no other one. */
static struct mark_entry *mark_one(struct mark_entry entry, struct mark_entry *top, struct mark_entry *limit,
                                   struct midden_tracer *tracer) {
  switch (entry.descriptor & GC_DS_TAGS) {
    case GC_DS_LENGTH:
      midden_trace_range(tracer, entry.object, (char *)entry.object + entry.descriptor);
      return top;
    case GC_DS_BITMAP:
      mark_bitmap(entry.object, entry.descriptor, tracer);
      return top;
    default:
      return mark_run_proc(entry, top, limit);
  }
}

void mark_by_descriptor(void *object, GC_word descriptor, struct midden_tracer *tracer) {
  struct mark_entry stack[MARK_STACK_ENTRIES + MARK_STACK_SLACK];
  struct mark_entry *top = stack, *limit = stack + MARK_STACK_ENTRIES;
  struct midden_tracer *outer = mark_tracer;
  mark_tracer = tracer;
  *++top = (struct mark_entry){.object = object, .descriptor = descriptor};
  while (top > stack) {
    struct mark_entry entry = *top--;
    while ((entry.descriptor & GC_DS_TAGS) == GC_DS_PER_OBJECT)
      entry.descriptor = mark_find_descriptor(entry.object, entry.descriptor);
    if (entry.descriptor) top = mark_one(entry, top, limit, tracer);
  }
  mark_tracer = outer;
}

void mark_trace_kind(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const struct kind *kind = argument;
  mark_by_descriptor(object, kind->descriptor + (kind->add_size ? slot_bytes : 0), tracer);
}

struct GC_ms_entry *GC_mark_and_push(void *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                     void **source) {
  (void)limit;
  (void)source;
  if (mark_tracer) midden_trace(mark_tracer, object);
  return stack;
}

/* ---- the program's roots ---- */

void mark_push_no_roots(void) {}

void mark_roots(struct midden_tracer *tracer, void *unused) {
  (void)unused;
  spawn_trace_results(tracer);
  toggleref_trace(tracer);
  GC_push_other_roots_proc push = GC_push_other_roots;
  if (!push) return;
  mark_tracer = tracer;
  push();
  mark_tracer = NULL;
}

void GC_set_push_other_roots(GC_push_other_roots_proc function) { GC_push_other_roots = function; }
GC_push_other_roots_proc GC_get_push_other_roots(void) { return GC_push_other_roots; }

void GC_push_all(void *start, void *end) {
  GC_word align = sizeof(void *) - 1;
  char *first = (char *)(((GC_word)start + align) & ~align), *last = (char *)((GC_word)end & ~align);
  if (mark_tracer && first < last) midden_trace_range(mark_tracer, first, last);
}

void GC_push_all_eager(void *start, void *end) { GC_push_all(start, end); }

void GC_push_conditional(void *start, void *end, int all) {
  (void)all;
  GC_push_all(start, end);
}

/* midden's finalizer tables hold no pointers that it would have to be told of. */
void GC_push_finalizer_structures(void) {}

/* ---- mark bits ---- */

static bool mark_is_stopped; /* read by the thread that wrote it, and when the world runs again */

void mark_note_stop(bool stopped) { mark_is_stopped = stopped; }

/* While the program runs an object that lives counts as marked: libgc keeps the marks until the next collection. */
int GC_is_marked(const void *object) {
  return mark_is_stopped || mark_tracer ? midden_is_marked(object) : midden_base(object) != NULL;
}

void GC_set_mark_bit(const void *object) { midden_mark(object); }
void GC_clear_mark_bit(const void *object) { (void)object; }
