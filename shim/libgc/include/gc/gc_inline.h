/* Inline allocation from free lists that the program keeps itself, usually one array of GC_TINY_FREELISTS lists for
 * each thread.  The arrays must lie where the collector sees them. */
#ifndef GC_INLINE_H
#define GC_INLINE_H

#include "gc.h"
#include "gc_tiny_fl.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GC_EXPECT(condition, outcome) __builtin_expect(condition, outcome)
#ifndef GC_ASSERT
#ifdef NDEBUG
#define GC_ASSERT(condition)
#else
#include <assert.h>
#define GC_ASSERT(condition) assert(condition)
#endif
#endif
#ifndef GC_PREFETCH_FOR_WRITE
#define GC_PREFETCH_FOR_WRITE(p) __builtin_prefetch((p), 1)
#endif

#define GC_I_PTRFREE 0
#define GC_I_NORMAL 1

/* Stores a list of objects of a kind at *result, linked through their first words; NULL when memory is short. */
GC_API void GC_CALL GC_generic_malloc_many(size_t bytes, int kind, void **result);

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_kind(size_t bytes, int kind);
#ifdef GC_THREADS
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_kind_global(size_t bytes, int kind);
#else
#define GC_malloc_kind_global GC_malloc_kind
#endif

/* A list of a program's array holds one of three things: a pointer to a free object; or, while a size is new, a small
 * count of the objects that were taken one by one by `fallback`; or NULL.  Once the count has passed `direct`, objects
 * are fetched many at a time.  `init` runs on the new object `result`, whose first word still holds the link. */
#define GC_FAST_MALLOC_GRANS(result, granules, lists, direct, kind, fallback, init)                                    \
  do {                                                                                                                 \
    if (GC_EXPECT((granules) >= GC_TINY_FREELISTS, 0)) {                                                               \
      result = (fallback);                                                                                             \
    } else {                                                                                                           \
      void **gc_list = (lists) + (granules);                                                                           \
      void *gc_first = *gc_list;                                                                                       \
      for (;;) {                                                                                                       \
        if (GC_EXPECT((GC_word)gc_first > (GC_word)(direct) + GC_TINY_FREELISTS + 1, 1)) {                             \
          void *gc_next = *(void **)gc_first;                                                                          \
          result = gc_first;                                                                                           \
          *gc_list = gc_next;                                                                                          \
          init;                                                                                                        \
          GC_PREFETCH_FOR_WRITE(gc_next);                                                                              \
          if ((kind) != GC_I_PTRFREE) {                                                                                \
            GC_end_stubborn_change(gc_list);                                                                           \
            GC_reachable_here(gc_next);                                                                                \
          }                                                                                                            \
          GC_ASSERT(GC_size(result) >= (granules)*GC_GRANULE_BYTES);                                                   \
          break;                                                                                                       \
        }                                                                                                              \
        if (gc_first && (GC_signed_word)gc_first <= (GC_signed_word)(direct)) {                                        \
          *gc_list = (char *)gc_first + (granules) + 1;                                                                \
          result = (fallback);                                                                                         \
          break;                                                                                                       \
        }                                                                                                              \
        GC_generic_malloc_many((granules) == 0 ? GC_GRANULE_BYTES : GC_RAW_BYTES_FROM_INDEX(granules), kind, gc_list); \
        gc_first = *gc_list;                                                                                           \
        if (!gc_first) {                                                                                               \
          result = (*GC_get_oom_fn())((granules)*GC_GRANULE_BYTES);                                                    \
          break;                                                                                                       \
        }                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  } while (0)

#define GC_WORDS_TO_WHOLE_GRANULES(words) GC_WORDS_TO_GRANULES((words) + GC_GRANULE_WORDS - 1)

#define GC_MALLOC_WORDS_KIND(result, words, lists, kind, init)                                                     \
  do {                                                                                                             \
    size_t gc_granules = GC_WORDS_TO_WHOLE_GRANULES(words);                                                        \
    GC_FAST_MALLOC_GRANS(result, gc_granules, lists, 0, kind, GC_malloc_kind(gc_granules *GC_GRANULE_BYTES, kind), \
                         init);                                                                                    \
  } while (0)

#define GC_MALLOC_WORDS(result, words, lists) \
  GC_MALLOC_WORDS_KIND(result, words, lists, GC_I_NORMAL, *(void **)(result) = 0)
#define GC_MALLOC_ATOMIC_WORDS(result, words, lists) GC_MALLOC_WORDS_KIND(result, words, lists, GC_I_PTRFREE, (void)0)

#define GC_CONS(result, first, second, lists)                     \
  do {                                                            \
    void *gc_car = (void *)(first);                               \
    void *gc_cdr = (void *)(second);                              \
    GC_MALLOC_WORDS_KIND(result, 2, lists, GC_I_NORMAL, (void)0); \
    if ((result) != 0) {                                          \
      *(void **)(result) = gc_car;                                \
      GC_PTR_STORE_AND_DIRTY((void **)(result) + 1, gc_cdr);      \
      GC_reachable_here(gc_car);                                  \
    }                                                             \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif
