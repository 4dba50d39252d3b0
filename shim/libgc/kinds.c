/* libgc's numbered object kinds, each backed by one of midden's.
 *
 * A kind that a program makes has a descriptor (see gc_mark.h).  Where the descriptor says no more than "every word" or
 * "no word", midden's own scanning does it; else objects of the kind are read by mark_trace_kind.  Kinds are only ever
 * added, in midden_locked_call; a number is published by storing kinds_used after the entry, so reading takes no lock. */
#include "shim.h"

static struct kind kinds[KINDS_MAX];
static int kinds_used; /* atomic; release after the entry is written */

/* ---- making kinds ---- */

struct kinds_request {
  struct kind kind;
  struct midden_kind_options options;
  bool by_descriptor; /* the kind itself is the argument of the trace function */
};

/* The new kind's number, or -1. */
static void *kinds_add_locked(void *argument) {
  struct kinds_request *request = argument;
  int number = kinds_used;
  if (number >= KINDS_MAX) return (void *)-1;
  struct kind *kind = &kinds[number];
  *kind = request->kind;
  kind->known_as = number;
  if (request->by_descriptor) request->options.argument = kind;
  if (request->options.size) {
    int midden = midden_kind_new(&request->options);
    if (midden < 0) return (void *)-1;
    kind->midden = (midden_kind)midden;
  }
  __atomic_store_n(&kinds_used, number + 1, __ATOMIC_RELEASE);
  return (void *)(intptr_t)number;
}

static int kinds_add(struct kinds_request *request) {
  return (int)(intptr_t)midden_locked_call(kinds_add_locked, request);
}

static void kinds_add_built_in(int number, midden_kind midden, bool pointers) {
  struct kinds_request request = {.kind = {.midden = midden, .add_size = pointers}};
  if (kinds_add(&request) != number) report_fatal("libgc: the built-in kinds are out of order");
}

static void kinds_add_traced(int number, const char *name, midden_trace_fn *trace, bool beside) {
  struct kinds_request request = {
      .options = {.size = sizeof(request.options), .name = name, .trace = trace, .trace_beside = beside}};
  if (kinds_add(&request) != number) report_fatal("libgc: no room for the kinds of typed objects");
}

void kinds_know_as(int kind, int known_as) { kinds[kind].known_as = known_as; }

void kinds_init(void) {
  kinds_add_built_in(KIND_PTRFREE, MIDDEN_RAW, false);
  kinds_add_built_in(KIND_NORMAL, MIDDEN_CONSERVATIVE, true);
  kinds_add_built_in(KIND_UNCOLLECTABLE, MIDDEN_ROOT, true);
  kinds_add_built_in(KIND_ATOMIC_UNCOLLECTABLE, MIDDEN_ROOT_DATA, false);
  kinds_add_traced(KIND_TYPED, "libgc typed", typed_trace, true);
  kinds_add_traced(KIND_TYPED_ARRAY, "libgc typed array", typed_array_trace, true);
  kinds_add_traced(KIND_TYPED_CALLED, "libgc typed, by procedure", typed_trace, false);
  kinds_add_traced(KIND_TYPED_ARRAY_CALLED, "libgc typed array, by procedure", typed_array_trace, false);
  kinds_know_as(KIND_TYPED_CALLED, KIND_TYPED);
  kinds_know_as(KIND_TYPED_ARRAY_CALLED, KIND_TYPED_ARRAY);
}

/* The array tells libgc where the kind's free lists are; midden keeps its own.  It is handed out for programs that
 * check it, and never written. */
void **GC_new_free_list(void) { return midden_alloc_root(GC_TINY_FREELISTS * sizeof(void *)); }
void **GC_new_free_list_inner(void) { return GC_new_free_list(); }

unsigned kinds_new(GC_word descriptor, int add_size, int clear, bool calls) {
  struct kinds_request request = {.kind = {.descriptor = descriptor, .add_size = add_size}};
  struct midden_kind_options *options = &request.options;
  options->size = sizeof(*options);
  options->name = "libgc kind";
  options->no_pointers = descriptor == GC_DS_LENGTH && !add_size;
  options->not_zeroed = !clear && options->no_pointers; /* garbage in words that are read would hold objects */
  request.by_descriptor = descriptor != GC_DS_LENGTH;
  if (request.by_descriptor) options->trace = mark_trace_kind;
  options->trace_beside = !calls;
  int number = kinds_add(&request);
  if (number < 0) report_fatal("libgc: too many object kinds");
  return (unsigned)number;
}

unsigned GC_new_kind(void **free_list, GC_word descriptor, int add_size, int clear) {
  (void)free_list;
  return kinds_new(descriptor, add_size, clear, mark_may_call(descriptor));
}

unsigned GC_new_kind_inner(void **free_list, GC_word descriptor, int add_size, int clear) {
  return GC_new_kind(free_list, descriptor, add_size, clear);
}

/* ---- objects of a kind ---- */

midden_kind kinds_to_midden(int kind) {
  if (kind < 0 || kind >= __atomic_load_n(&kinds_used, __ATOMIC_ACQUIRE))
    report_fatal("libgc: an object kind that was never made");
  return kinds[kind].midden;
}

void *GC_malloc_kind(size_t bytes, int kind) {
  if (kind == KIND_NORMAL) return midden_alloc(bytes);
  return midden_alloc_kind(kind == KIND_PTRFREE ? (midden_kind)MIDDEN_RAW : kinds_to_midden(kind), bytes);
}

void *GC_malloc_kind_global(size_t bytes, int kind) { return GC_malloc_kind(bytes, kind); }
void *GC_generic_malloc(size_t bytes, int kind) { return GC_malloc_kind(bytes, kind); }
void *GC_generic_malloc_ignore_off_page(size_t bytes, int kind) { return GC_malloc_kind(bytes, kind); }
void *GC_generic_or_special_malloc(size_t bytes, int kind) { return GC_malloc_kind(bytes, kind); }

/* Of the kinds that a program makes none is uncollectable: libgc's, too, live only as long as they are reachable. */
void *GC_generic_malloc_uncollectable(size_t bytes, int kind) {
  switch (kind) {
    case KIND_PTRFREE:
      return midden_alloc_kind(MIDDEN_ROOT_DATA, bytes);
    case KIND_NORMAL:
      return midden_alloc_root(bytes);
    default:
      return midden_alloc_kind(kinds_to_midden(kind), bytes);
  }
}

void GC_generic_malloc_many(size_t bytes, int kind, void **result) {
  midden_alloc_many(kinds_to_midden(kind), bytes, result);
}

void *GC_malloc_many(size_t bytes) {
  void *list;
  midden_alloc_many(MIDDEN_CONSERVATIVE, bytes, &list);
  return list;
}

int GC_get_kind_and_size(const void *object, size_t *bytes) {
  int midden = midden_kind_of(object);
  if (bytes) *bytes = midden_size(object);
  int used = __atomic_load_n(&kinds_used, __ATOMIC_ACQUIRE);
  for (int kind = 0; kind < used; kind++)
    if ((int)kinds[kind].midden == midden) return kinds[kind].known_as;
  return midden == MIDDEN_DATA ? KIND_PTRFREE : KIND_NORMAL;
}
