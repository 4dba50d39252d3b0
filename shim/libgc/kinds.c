/* libgc's numbered object kinds, each backed by one of midden's.
 *
 * A kind that a program makes has a descriptor (see gc_mark.h).  Where the descriptor says no more than "every word" or
 * "no word", midden's own scanning does it; else objects of the kind are read by mark_trace_kind.  Kinds are only ever
 * added; a number is published by storing kinds_used after the entry, so reading takes no lock. */
#include <pthread.h>

#include "shim.h"

static struct kind kinds[KINDS_MAX];
static int kinds_used; /* atomic; grows under kinds_lock, after the entry is written */
static pthread_mutex_t kinds_lock = PTHREAD_MUTEX_INITIALIZER;

static int kinds_add(struct kind kind) {
  pthread_mutex_lock(&kinds_lock);
  int number = kinds_used;
  if (number < KINDS_MAX) {
    kinds[number] = kind;
    __atomic_store_n(&kinds_used, number + 1, __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&kinds_lock);
  return number < KINDS_MAX ? number : -1;
}

int kinds_new(const char *name, midden_trace_fn *trace, void *argument) {
  struct midden_kind_options options = {.size = sizeof(options), .name = name, .trace = trace, .argument = argument};
  int midden = midden_kind_new(&options);
  if (midden < 0) return -1;
  return kinds_add((struct kind){.midden = (midden_kind)midden});
}

void kinds_init(void) {
  kinds_add((struct kind){.midden = MIDDEN_RAW});
  kinds_add((struct kind){.midden = MIDDEN_CONSERVATIVE, .add_size = 1});
  kinds_add((struct kind){.midden = MIDDEN_ROOT, .add_size = 1});
  kinds_add((struct kind){.midden = MIDDEN_ROOT_DATA});
  if (kinds_new("libgc typed", typed_trace, NULL) != KIND_TYPED ||
      kinds_new("libgc typed array", typed_array_trace, NULL) != KIND_TYPED_ARRAY)
    report_fatal("libgc: no room for the kinds of typed objects");
}

midden_kind kinds_to_midden(int kind) {
  if (kind < 0 || kind >= __atomic_load_n(&kinds_used, __ATOMIC_ACQUIRE))
    report_fatal("libgc: an object kind that was never made");
  return kinds[kind].midden;
}

/* ---- making kinds ---- */

/* The array tells libgc where the kind's free lists are; midden keeps its own.  It is handed out for programs that
 * check it, and never written. */
void **GC_new_free_list(void) { return midden_alloc_root(GC_TINY_FREELISTS * sizeof(void *)); }
void **GC_new_free_list_inner(void) { return GC_new_free_list(); }

unsigned GC_new_kind(void **free_list, GC_word descriptor, int add_size, int clear) {
  (void)free_list;
  bool every_word = descriptor == GC_DS_LENGTH && add_size;
  bool no_word = descriptor == GC_DS_LENGTH && !add_size;
  pthread_mutex_lock(&kinds_lock);
  int number = kinds_used;
  if (number >= KINDS_MAX) report_fatal("libgc: too many object kinds");
  struct kind *kind = &kinds[number];
  *kind = (struct kind){.descriptor = descriptor, .add_size = add_size};
  struct midden_kind_options options = {.size = sizeof(options), .name = "libgc kind", .no_pointers = no_word};
  options.not_zeroed = !clear && no_word; /* garbage in words that are read would hold objects */
  if (!every_word && !no_word) {
    options.trace = mark_trace_kind;
    options.argument = kind;
  }
  int midden = midden_kind_new(&options);
  if (midden < 0) report_fatal("libgc: too many object kinds");
  kind->midden = (midden_kind)midden;
  __atomic_store_n(&kinds_used, number + 1, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&kinds_lock);
  return (unsigned)number;
}

unsigned GC_new_kind_inner(void **free_list, GC_word descriptor, int add_size, int clear) {
  return GC_new_kind(free_list, descriptor, add_size, clear);
}

/* ---- objects of a kind ---- */

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
  size_t count;
  *result = midden_alloc_many(kinds_to_midden(kind), bytes, &count);
}

void *GC_malloc_many(size_t bytes) {
  size_t count;
  return midden_alloc_many(MIDDEN_CONSERVATIVE, bytes, &count);
}

int GC_get_kind_and_size(const void *object, size_t *bytes) {
  int midden = midden_kind_of(object);
  if (bytes) *bytes = midden_size(object);
  int used = __atomic_load_n(&kinds_used, __ATOMIC_ACQUIRE);
  for (int kind = 0; kind < used; kind++)
    if ((int)kinds[kind].midden == midden) return kind;
  return midden == MIDDEN_DATA ? KIND_PTRFREE : KIND_NORMAL;
}
