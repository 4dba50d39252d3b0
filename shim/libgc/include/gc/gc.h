/* The libgc (Boehm collector, 8.2) interface to midden: programs written for libgc compile against these headers and
 * link to midden's libgc.so.1, as programs that are already linked to libgc run on it.
 *
 * What every function here keeps is libgc's contract; the comments say in short what that is and, where midden differs,
 * how.  Variables may be read and written as in libgc.  Those that a running collection depends on are looked at when
 * the next collection starts. */
#ifndef GC_H
#define GC_H

#include "gc_config_macros.h"
#include "gc_version.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void *GC_PTR;
typedef unsigned long GC_word;
typedef long GC_signed_word;

/* GC_VERSION_MAJOR << 16 | GC_VERSION_MINOR << 8 | GC_VERSION_MICRO of the library. */
GC_API unsigned GC_CALL GC_get_version(void);

/* ---------------------------------------------------------------- start */

/* Starts the collector and takes over the variables written so far.  Any other call starts it too. */
GC_API void GC_CALL GC_init(void);
GC_API int GC_CALL GC_is_init_called(void);
GC_API void GC_CALL GC_deinit(void);

/* ---------------------------------------------------------------- allocation */

/* Zeroed, may hold pointers anywhere. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc(size_t bytes);

/* Holds no pointers, not zeroed. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_atomic(size_t bytes);

/* Live until GC_free; what they point to lives with them. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_uncollectable(size_t bytes);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_atomic_uncollectable(size_t bytes);

/* libgc ignores pointers beyond the first page of these.  midden sees every pointer into any object. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_ignore_off_page(size_t bytes);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_malloc_atomic_ignore_off_page(size_t bytes);

GC_API GC_ATTR_DEPRECATED void *GC_CALL GC_malloc_stubborn(size_t bytes);

/* Objects linked through their first words, the rest of each zero; GC_NEXT steps along the list. */
GC_API GC_ATTR_MALLOC void *GC_CALL GC_malloc_many(size_t bytes);
#define GC_NEXT(p) (*(void **)(p))

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(2) void *GC_CALL GC_memalign(size_t alignment, size_t bytes);
GC_API int GC_CALL GC_posix_memalign(void **result, size_t alignment, size_t bytes) GC_ATTR_NONNULL(1);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_valloc(size_t bytes);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_pvalloc(size_t bytes);

/* Pointer-free copies. */
GC_API GC_ATTR_MALLOC char *GC_CALL GC_strdup(const char *string);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_strndup(const char *string, size_t limit) GC_ATTR_NONNULL(1);

/* Keeps the kind of the object.  Size 0 frees; a NULL object is GC_malloc. */
GC_API void *GC_CALL GC_realloc(void *object, size_t bytes) GC_ATTR_ALLOC_SIZE(2);
GC_API void GC_CALL GC_free(void *object);

/* Called when memory ran out, with the size wanted; the allocation returns what it returns. */
typedef void *(GC_CALLBACK *GC_oom_func)(size_t bytes);
GC_API GC_ATTR_DEPRECATED GC_oom_func GC_oom_fn;
GC_API void GC_CALL GC_set_oom_fn(GC_oom_func function) GC_ATTR_NONNULL(1);
GC_API GC_oom_func GC_CALL GC_get_oom_fn(void);

/* ---------------------------------------------------------------- questions about addresses */

/* The first byte of the object that holds an address, or NULL. */
GC_API void *GC_CALL GC_base(void *address);
GC_API int GC_CALL GC_is_heap_ptr(const void *address);

/* Bytes that an object may use: at least what was asked for. */
GC_API size_t GC_CALL GC_size(const void *object) GC_ATTR_NONNULL(1);

/* Accepted for programs that announce the tags of their pointers; midden sees interior pointers always. */
GC_API void GC_CALL GC_register_displacement(size_t offset);
GC_API void GC_CALL GC_debug_register_displacement(size_t offset);

/* Each returns its (first) argument after checking it; a failed check calls the print procedure, which by default ends
 * the process. */
GC_API void *GC_CALL GC_same_obj(void *p, void *q);
GC_API void *GC_CALL GC_is_visible(void *p);
GC_API void *GC_CALL GC_is_valid_displacement(void *p);
GC_API void *GC_CALL GC_pre_incr(void **p, ptrdiff_t bytes) GC_ATTR_NONNULL(1);
GC_API void *GC_CALL GC_post_incr(void **p, ptrdiff_t bytes) GC_ATTR_NONNULL(1);
GC_API void(GC_CALLBACK *GC_same_obj_print_proc)(void *p, void *q);
GC_API void(GC_CALLBACK *GC_is_valid_displacement_print_proc)(void *p);
GC_API void(GC_CALLBACK *GC_is_visible_print_proc)(void *p);

/* ---------------------------------------------------------------- roots */

/* The aligned words of [start, end) are roots, until the range is removed: by a removal that covers all of it. */
GC_API void GC_CALL GC_add_roots(void *start, void *end);
GC_API void GC_CALL GC_remove_roots(void *start, void *end);
GC_API void GC_CALL GC_clear_roots(void);

/* Keeps [start, end) from being read as static data. */
GC_API void GC_CALL GC_exclude_static_roots(void *start, void *end);
GC_API void GC_CALL GC_clear_exclusion_table(void);

/* Asked for each loaded object whether its static data is a root; nonzero says that it is. */
typedef int(GC_CALLBACK *GC_has_static_roots_func)(const char *name, void *start, size_t bytes);
GC_API void GC_CALL GC_register_has_static_roots_callback(GC_has_static_roots_func function);

/* Nonzero: the static data of the program and of its libraries are no roots. */
GC_API GC_ATTR_DEPRECATED int GC_no_dls;
GC_API void GC_CALL GC_set_no_dls(int value);
GC_API int GC_CALL GC_get_no_dls(void);

/* The base of the main thread's stack.  A program that runs coroutines on the main thread writes the base of the stack
 * that it switches to. */
GC_API GC_ATTR_DEPRECATED char *GC_stackbottom;

/* ---------------------------------------------------------------- collections */

GC_API void GC_CALL GC_gcollect(void);

/* The same, and gives free memory back to the system. */
GC_API void GC_CALL GC_gcollect_and_unmap(void);

/* Collects unless the function, called now and then, returns nonzero.  1 if the collection was finished, else 0. */
typedef int(GC_CALLBACK *GC_stop_func)(void);
GC_API int GC_CALL GC_try_to_collect(GC_stop_func stop) GC_ATTR_NONNULL(1);

/* The stop function of GC_gcollect. */
GC_API void GC_CALL GC_set_stop_func(GC_stop_func stop) GC_ATTR_NONNULL(1);
GC_API GC_stop_func GC_CALL GC_get_stop_func(void);

/* Collections are off while GC_disable was called more often than GC_enable, that is while GC_dont_gc is not 0. */
GC_API void GC_CALL GC_disable(void);
GC_API void GC_CALL GC_enable(void);
GC_API int GC_CALL GC_is_disabled(void);
GC_API
#ifndef GC_DONT_GC
GC_ATTR_DEPRECATED
#endif
int GC_dont_gc;
GC_API void GC_CALL GC_set_disable_automatic_collection(int value);
GC_API int GC_CALL GC_get_disable_automatic_collection(void);

/* 0 when there is no more to do, which is always: midden has no work that a program must push along. */
GC_API int GC_CALL GC_collect_a_little(void);
GC_API void GC_CALL GC_enable_incremental(void);
GC_API int GC_CALL GC_is_incremental_mode(void);
GC_API void GC_CALL GC_start_incremental_collection(void);
GC_API void GC_CALL GC_set_manual_vdb_allowed(int value);
GC_API int GC_CALL GC_get_manual_vdb_allowed(void);
#define GC_PROTECTS_NONE 0
#define GC_PROTECTS_POINTER_HEAP 1
#define GC_PROTECTS_PTRFREE_HEAP 2
#define GC_PROTECTS_STATIC_DATA 4
#define GC_PROTECTS_STACK 8
GC_API int GC_CALL GC_incremental_protection_needs(void);

/* Stores and store notes of libgc's manual write barrier. */
GC_API GC_ATTR_DEPRECATED void GC_CALL GC_change_stubborn(const void *object);
GC_API void GC_CALL GC_end_stubborn_change(const void *object) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_ptr_store_and_dirty(void *slot, const void *value);
GC_API void GC_CALL GC_debug_ptr_store_and_dirty(void *slot, const void *value);

/* Steps of a collection, told in this order but for the world's stop and start, which come around the marking. */
typedef enum {
  GC_EVENT_START,
  GC_EVENT_MARK_START,
  GC_EVENT_MARK_END,
  GC_EVENT_RECLAIM_START,
  GC_EVENT_RECLAIM_END,
  GC_EVENT_END,
  GC_EVENT_PRE_STOP_WORLD,
  GC_EVENT_POST_STOP_WORLD,
  GC_EVENT_PRE_START_WORLD,
  GC_EVENT_POST_START_WORLD,
  GC_EVENT_THREAD_SUSPENDED,
  GC_EVENT_THREAD_UNSUSPENDED
} GC_EventType;
typedef void(GC_CALLBACK *GC_on_collection_event_proc)(GC_EventType event);
GC_API void GC_CALL GC_set_on_collection_event(GC_on_collection_event_proc function);
GC_API GC_on_collection_event_proc GC_CALL GC_get_on_collection_event(void);

/* Collections so far. */
GC_API GC_ATTR_DEPRECATED GC_word GC_gc_no;
GC_API GC_word GC_CALL GC_get_gc_no(void);

/* ---------------------------------------------------------------- heap size and pace */

/* 1, or 0 where memory is short. */
GC_API int GC_CALL GC_expand_hp(size_t bytes);

/* 0: no limit. */
GC_API void GC_CALL GC_set_max_heap_size(GC_word bytes);

/* About 1/divisor of twice the live heap is allocated between collections: midden collects after the heap grew by
 * 200 / divisor percent.  Left at its default it stands for midden's own default. */
GC_API GC_ATTR_DEPRECATED GC_word GC_free_space_divisor;
GC_API void GC_CALL GC_set_free_space_divisor(GC_word value);
GC_API GC_word GC_CALL GC_get_free_space_divisor(void);

typedef void(GC_CALLBACK *GC_on_heap_resize_proc)(GC_word heap_bytes);
GC_API GC_ATTR_DEPRECATED GC_on_heap_resize_proc GC_on_heap_resize;
GC_API void GC_CALL GC_set_on_heap_resize(GC_on_heap_resize_proc function);
GC_API GC_on_heap_resize_proc GC_CALL GC_get_on_heap_resize(void);

/* GC_gcollect gives free memory back to the system too. */
GC_API void GC_CALL GC_set_force_unmap_on_gcollect(int value);
GC_API int GC_CALL GC_get_force_unmap_on_gcollect(void);

/* ---------------------------------------------------------------- settings that midden keeps but does not need */

GC_API GC_ATTR_DEPRECATED int GC_find_leak;
GC_API void GC_CALL GC_set_find_leak(int value);
GC_API int GC_CALL GC_get_find_leak(void);
GC_API GC_ATTR_DEPRECATED int GC_all_interior_pointers;
GC_API void GC_CALL GC_set_all_interior_pointers(int value);
GC_API int GC_CALL GC_get_all_interior_pointers(void);
GC_API GC_ATTR_DEPRECATED int GC_dont_expand;
GC_API void GC_CALL GC_set_dont_expand(int value);
GC_API int GC_CALL GC_get_dont_expand(void);
GC_API GC_ATTR_DEPRECATED int GC_use_entire_heap;
GC_API GC_ATTR_DEPRECATED int GC_full_freq;
GC_API void GC_CALL GC_set_full_freq(int value);
GC_API int GC_CALL GC_get_full_freq(void);
GC_API GC_ATTR_DEPRECATED GC_word GC_non_gc_bytes;
GC_API void GC_CALL GC_set_non_gc_bytes(GC_word value);
GC_API GC_word GC_CALL GC_get_non_gc_bytes(void);
GC_API GC_ATTR_DEPRECATED GC_word GC_max_retries;
GC_API void GC_CALL GC_set_max_retries(GC_word value);
GC_API GC_word GC_CALL GC_get_max_retries(void);
GC_API GC_ATTR_DEPRECATED int GC_dont_precollect;
GC_API void GC_CALL GC_set_dont_precollect(int value);
GC_API int GC_CALL GC_get_dont_precollect(void);
#define GC_TIME_UNLIMITED 999999
GC_API GC_ATTR_DEPRECATED unsigned long GC_time_limit;
GC_API void GC_CALL GC_set_time_limit(unsigned long milliseconds);
GC_API unsigned long GC_CALL GC_get_time_limit(void);
struct GC_timeval_s {
  unsigned long tv_ms;
  unsigned long tv_nsec;
};
GC_API void GC_CALL GC_set_time_limit_tv(struct GC_timeval_s limit);
GC_API struct GC_timeval_s GC_CALL GC_get_time_limit_tv(void);
GC_API void GC_CALL GC_set_allocd_bytes_per_finalizer(GC_word value);
GC_API GC_word GC_CALL GC_get_allocd_bytes_per_finalizer(void);
GC_API void GC_CALL GC_set_pages_executable(int value);
GC_API int GC_CALL GC_get_pages_executable(void);
GC_API void GC_CALL GC_set_min_bytes_allocd(size_t value);
GC_API size_t GC_CALL GC_get_min_bytes_allocd(void);
GC_API void GC_CALL GC_set_rate(int value);
GC_API int GC_CALL GC_get_rate(void);
GC_API void GC_CALL GC_set_max_prior_attempts(int value);
GC_API int GC_CALL GC_get_max_prior_attempts(void);

/* ---------------------------------------------------------------- figures, in bytes unless the name says otherwise */

GC_API size_t GC_CALL GC_get_heap_size(void);      /* without what was given back */
GC_API size_t GC_CALL GC_get_free_bytes(void);     /* in free pages, without what was given back */
GC_API size_t GC_CALL GC_get_unmapped_bytes(void); /* given back to the system */
GC_API size_t GC_CALL GC_get_bytes_since_gc(void); /* allocated since the last collection */
GC_API size_t GC_CALL GC_get_expl_freed_bytes_since_gc(void);
GC_API size_t GC_CALL GC_get_total_bytes(void); /* allocated ever */
GC_API size_t GC_CALL GC_get_obtained_from_os_bytes(void);
GC_API size_t GC_CALL GC_get_memory_use(void); /* in pages that hold objects */

/* Several at once; any pointer may be NULL. */
GC_API void GC_CALL GC_get_heap_usage_safe(GC_word *heap, GC_word *free_bytes, GC_word *unmapped, GC_word *since_gc,
                                           GC_word *total);

struct GC_prof_stats_s {
  GC_word heapsize_full;             /* heap, what was given back included */
  GC_word free_bytes_full;           /* free, what was given back included */
  GC_word unmapped_bytes;            /* given back */
  GC_word bytes_allocd_since_gc;     /* since the last collection */
  GC_word allocd_bytes_before_gc;    /* ever, up to the last collection */
  GC_word non_gc_bytes;              /* as set by GC_set_non_gc_bytes */
  GC_word gc_no;                     /* collections */
  GC_word markers_m1;                /* marking threads beside the collecting one */
  GC_word bytes_reclaimed_since_gc;  /* by the last collection, about */
  GC_word reclaimed_bytes_before_gc; /* by those before it, about */
  GC_word expl_freed_bytes_since_gc; /* by GC_free since the last collection */
  GC_word obtained_from_os_bytes;    /* heap and metadata */
};

/* Fills as much as both sides know and returns its size; bytes beyond that are set to -1. */
GC_API size_t GC_CALL GC_get_prof_stats(struct GC_prof_stats_s *stats, size_t bytes);
#ifdef GC_THREADS
GC_API size_t GC_CALL GC_get_prof_stats_unsafe(struct GC_prof_stats_s *stats, size_t bytes);
#endif

/* The size of the object that a request of `bytes` gets, or -1 for one that gets pages of its own. */
GC_API size_t GC_CALL GC_get_size_map_at(int bytes);

/* Milliseconds that the world was stopped, from GC_start_performance_measurement on. */
GC_API void GC_CALL GC_start_performance_measurement(void);
GC_API unsigned long GC_CALL GC_get_full_gc_total_time(void);

/* Write figures to the log. */
GC_API void GC_CALL GC_dump(void);
GC_API void GC_CALL GC_dump_named(const char *name);
GC_API void GC_CALL GC_dump_regions(void);
GC_API void GC_CALL GC_dump_finalization(void);

/* ---------------------------------------------------------------- debugging allocators */

/* The same as those without `debug`: midden keeps no header in front of objects and no note of where they were
 * allocated.  MIDDEN_DEBUG turns on midden's own checks. */
#define GC_EXTRAS __FILE__, __LINE__
#define GC_EXTRA_PARAMS const char *s, int i
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_debug_malloc(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_debug_malloc_atomic(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_debug_malloc_uncollectable(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_atomic_uncollectable(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_ignore_off_page(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_malloc_atomic_ignore_off_page(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_DEPRECATED void *GC_CALL GC_debug_malloc_stubborn(size_t bytes, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_debug_strdup(const char *string, GC_EXTRA_PARAMS);
GC_API GC_ATTR_MALLOC char *GC_CALL GC_debug_strndup(const char *string, size_t limit, GC_EXTRA_PARAMS)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_free(void *object);
GC_API void *GC_CALL GC_debug_realloc(void *object, size_t bytes, GC_EXTRA_PARAMS) GC_ATTR_ALLOC_SIZE(2);
GC_API GC_ATTR_DEPRECATED void GC_CALL GC_debug_change_stubborn(const void *object);
GC_API void GC_CALL GC_debug_end_stubborn_change(const void *object) GC_ATTR_NONNULL(1);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_debug_malloc_replacement(size_t bytes);
GC_API GC_ATTR_ALLOC_SIZE(2) void *GC_CALL GC_debug_realloc_replacement(void *object, size_t bytes);

#if defined(GC_REQUIRE_WCSDUP) || defined(GC_BUILD)
#include <wchar.h>
GC_API GC_ATTR_MALLOC wchar_t *GC_CALL GC_wcsdup(const wchar_t *string) GC_ATTR_NONNULL(1);
GC_API GC_ATTR_MALLOC wchar_t *GC_CALL GC_debug_wcsdup(const wchar_t *string, GC_EXTRA_PARAMS) GC_ATTR_NONNULL(1);
#endif

/* ---------------------------------------------------------------- finalizers */

/* `function` is called with the object and `argument` once the object is unreachable.  NULL takes a finalizer away.
 * What was set before is stored at the last two arguments, where they are not NULL.  `object` is the start of an
 * object; for other addresses nothing happens. */
typedef void(GC_CALLBACK *GC_finalization_proc)(void *object, void *argument);

/* After the finalizers of all that points to the object; never for objects in cycles. */
GC_API void GC_CALL GC_register_finalizer(void *object, GC_finalization_proc function, void *argument,
                                          GC_finalization_proc *old_function, void **old_argument) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer(void *object, GC_finalization_proc function, void *argument,
                                                GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);

/* The same, except that an object's pointers to itself do not count. */
GC_API void GC_CALL GC_register_finalizer_ignore_self(void *object, GC_finalization_proc function, void *argument,
                                                      GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_ignore_self(void *object, GC_finalization_proc function, void *argument,
                                                            GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);

/* In any order. */
GC_API void GC_CALL GC_register_finalizer_no_order(void *object, GC_finalization_proc function, void *argument,
                                                   GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_no_order(void *object, GC_finalization_proc function, void *argument,
                                                         GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);

/* Only when no other finalizable object reaches it either. */
GC_API void GC_CALL GC_register_finalizer_unreachable(void *object, GC_finalization_proc function, void *argument,
                                                      GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_debug_register_finalizer_unreachable(void *object, GC_finalization_proc function, void *argument,
                                                            GC_finalization_proc *old_function, void **old_argument)
    GC_ATTR_NONNULL(1);

/* Finalizers run in the thread that collected, after the collection; with finalization on demand, only in
 * GC_invoke_finalizers, and the notifier is called instead. */
GC_API GC_ATTR_DEPRECATED int GC_finalize_on_demand;
GC_API void GC_CALL GC_set_finalize_on_demand(int value);
GC_API int GC_CALL GC_get_finalize_on_demand(void);
GC_API GC_ATTR_DEPRECATED int GC_java_finalization;
GC_API void GC_CALL GC_set_java_finalization(int value);
GC_API int GC_CALL GC_get_java_finalization(void);
typedef void(GC_CALLBACK *GC_finalizer_notifier_proc)(void);
GC_API GC_ATTR_DEPRECATED GC_finalizer_notifier_proc GC_finalizer_notifier;
GC_API void GC_CALL GC_set_finalizer_notifier(GC_finalizer_notifier_proc function);
GC_API GC_finalizer_notifier_proc GC_CALL GC_get_finalizer_notifier(void);
GC_API int GC_CALL GC_should_invoke_finalizers(void);
GC_API int GC_CALL GC_invoke_finalizers(void);

/* ---------------------------------------------------------------- disappearing links */

#define GC_SUCCESS 0
#define GC_DUPLICATE 1
#define GC_NO_MEMORY 2
#define GC_NO_THREADS 2
#define GC_UNIMPLEMENTED 3
#define GC_NOT_FOUND 4

/* The word at `link` is set to NULL when `object` becomes unreachable, before any finalizer runs.  The word may hold
 * anything, and must lie where the collector does not take it for a pointer.  GC_SUCCESS; GC_DUPLICATE where the link
 * was registered before (it now follows `object`); GC_NO_MEMORY. */
GC_API int GC_CALL GC_general_register_disappearing_link(void **link, const void *object) GC_ATTR_NONNULL(1)
    GC_ATTR_NONNULL(2);

/* The same for the object that holds the link itself. */
GC_API int GC_CALL GC_register_disappearing_link(void **link) GC_ATTR_NONNULL(1);

/* Moves a registration; the words are not touched.  GC_SUCCESS; GC_DUPLICATE where `new_link` is registered already;
 * GC_NOT_FOUND where `link` is not. */
GC_API int GC_CALL GC_move_disappearing_link(void **link, void **new_link) GC_ATTR_NONNULL(2);

/* 1, or 0 where the link was not registered. */
GC_API int GC_CALL GC_unregister_disappearing_link(void **link);

/* Links that hold on until finalizers can no longer bring the object back. */
GC_API int GC_CALL GC_register_long_link(void **link, const void *object) GC_ATTR_NONNULL(1) GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_move_long_link(void **link, void **new_link) GC_ATTR_NONNULL(2);
GC_API int GC_CALL GC_unregister_long_link(void **link);

/* Toggle references: at each collection the function says of every registered object whether it is to be held, or
 * may die when nothing else holds it, or is to be forgotten.  It may allocate nothing. */
typedef enum { GC_TOGGLE_REF_DROP, GC_TOGGLE_REF_STRONG, GC_TOGGLE_REF_WEAK } GC_ToggleRefStatus;
typedef GC_ToggleRefStatus(GC_CALLBACK *GC_toggleref_func)(void *object);
GC_API void GC_CALL GC_set_toggleref_func(GC_toggleref_func function);
GC_API GC_toggleref_func GC_CALL GC_get_toggleref_func(void);
GC_API int GC_CALL GC_toggleref_add(void *object, int is_strong) GC_ATTR_NONNULL(1);

/* Hiding pointers from the collector. */
typedef GC_word GC_hidden_pointer;
#define GC_HIDE_POINTER(p) (~(GC_hidden_pointer)(p))
#define GC_REVEAL_POINTER(p) ((void *)GC_HIDE_POINTER(p))
#if defined(I_HIDE_POINTERS) || defined(GC_I_HIDE_POINTERS)
#define HIDE_POINTER(p) GC_HIDE_POINTER(p)
#define REVEAL_POINTER(p) GC_REVEAL_POINTER(p)
#endif

/* Keeps an object alive up to here. */
#define GC_reachable_here(p) __asm__ __volatile__(" " : : "X"(p) : "memory")
GC_API void GC_CALL GC_noop1(GC_word value);

/* ---------------------------------------------------------------- messages */

/* The message is a printf format for one GC_word. */
typedef void(GC_CALLBACK *GC_warn_proc)(char *format, GC_word argument);
GC_API void GC_CALL GC_set_warn_proc(GC_warn_proc function) GC_ATTR_NONNULL(1);
GC_API GC_warn_proc GC_CALL GC_get_warn_proc(void);
GC_API void GC_CALLBACK GC_ignore_warn_proc(char *format, GC_word argument);
GC_API void GC_CALL GC_set_log_fd(int fd);

/* Called with the last message before the process ends. */
typedef void(GC_CALLBACK *GC_abort_func)(const char *message);
GC_API void GC_CALL GC_set_abort_func(GC_abort_func function) GC_ATTR_NONNULL(1);
GC_API GC_abort_func GC_CALL GC_get_abort_func(void);
GC_API void GC_CALL GC_abort_on_oom(void);

/* ---------------------------------------------------------------- threads and stacks */

typedef void *(GC_CALLBACK *GC_fn_type)(void *argument);

/* Calls `function` while no collection runs and nobody else is in such a call, or between the two functions below. */
GC_API void *GC_CALL GC_call_with_alloc_lock(GC_fn_type function, void *argument) GC_ATTR_NONNULL(1);
#ifdef GC_THREADS
GC_API void GC_CALL GC_alloc_lock(void);
GC_API void GC_CALL GC_alloc_unlock(void);
#else
#define GC_alloc_lock() (void)0
#define GC_alloc_unlock() (void)0
#endif

struct GC_stack_base {
  void *mem_base; /* the highest address of the stack that may hold pointers */
};
typedef void *(GC_CALLBACK *GC_stack_base_func)(struct GC_stack_base *base, void *argument);

/* Calls `function` with a base within the frame of this call. */
GC_API void *GC_CALL GC_call_with_stack_base(GC_stack_base_func function, void *argument) GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_get_stack_base(struct GC_stack_base *base) GC_ATTR_NONNULL(1);

/* The base in use for the calling thread; the result names the thread to GC_set_stackbottom. */
GC_API void *GC_CALL GC_get_my_stackbottom(struct GC_stack_base *base) GC_ATTR_NONNULL(1);

/* Moves the base of the calling thread's stack (a NULL thread, or its own name). */
GC_API void GC_CALL GC_set_stackbottom(void *thread, const struct GC_stack_base *base) GC_ATTR_NONNULL(2);

/* libgc calls it, from 8.2.4 on, to lead the stack pointer of a thread that runs a coroutine back to its own stack; midden does not. */
typedef void(GC_CALLBACK *GC_sp_corrector_proc)(void **stack_pointer, void *thread);
GC_API void GC_CALL GC_set_sp_corrector(GC_sp_corrector_proc function);
GC_API GC_sp_corrector_proc GC_CALL GC_get_sp_corrector(void);

/* Calls `function`, during which the thread does not touch the heap and collections do not wait for it. */
GC_API void *GC_CALL GC_do_blocking(GC_fn_type function, void *argument) GC_ATTR_NONNULL(1);

/* Within GC_do_blocking: calls `function`, which may use the heap. */
GC_API void *GC_CALL GC_call_with_gc_active(GC_fn_type function, void *argument) GC_ATTR_NONNULL(1);

GC_API void GC_CALL GC_start_mark_threads(void);

#ifdef GC_THREADS
GC_API GC_ATTR_DEPRECATED int GC_parallel; /* marking threads beside the collecting one */
GC_API int GC_CALL GC_get_parallel(void);
GC_API void GC_CALL GC_set_markers_count(unsigned count);

/* The signal that stops threads: to be set before the first thread starts.  Threads are started again without a
 * signal; the number set for that is only remembered. */
GC_API void GC_CALL GC_set_suspend_signal(int signal);
GC_API int GC_CALL GC_get_suspend_signal(void);
GC_API void GC_CALL GC_set_thr_restart_signal(int signal);
GC_API int GC_CALL GC_get_thr_restart_signal(void);

/* For threads not made by GC_pthread_create.  midden knows a thread from its first allocation, so these only fix when
 * that is, and which base its stack has.  GC_SUCCESS, or GC_DUPLICATE where it is registered. */
GC_API void GC_CALL GC_allow_register_threads(void);
GC_API int GC_CALL GC_register_my_thread(const struct GC_stack_base *base) GC_ATTR_NONNULL(1);
GC_API int GC_CALL GC_unregister_my_thread(void);
GC_API int GC_CALL GC_thread_is_registered(void);

GC_API void GC_CALL GC_register_altstack(void *stack, GC_word stack_bytes, void *altstack, GC_word altstack_bytes);
GC_API void GC_CALL GC_stop_world_external(void);
GC_API void GC_CALL GC_start_world_external(void);

typedef void(GC_CALLBACK *GC_on_thread_event_proc)(GC_EventType event, void *thread);
GC_API void GC_CALL GC_set_on_thread_event(GC_on_thread_event_proc function);
GC_API GC_on_thread_event_proc GC_CALL GC_get_on_thread_event(void);
#endif

/* 1: handled by the library (as midden does anyway).  -1: the program calls the three functions around fork. */
GC_API void GC_CALL GC_set_handle_fork(int value);
GC_API void GC_CALL GC_atfork_prepare(void);
GC_API void GC_CALL GC_atfork_parent(void);
GC_API void GC_CALL GC_atfork_child(void);

/* ---------------------------------------------------------------- the macros that most programs use */

#ifdef GC_DEBUG_REPLACEMENT
#define GC_MALLOC(bytes) GC_debug_malloc_replacement(bytes)
#define GC_REALLOC(object, bytes) GC_debug_realloc_replacement(object, bytes)
#elif defined(GC_DEBUG)
#define GC_MALLOC(bytes) GC_debug_malloc(bytes, GC_EXTRAS)
#define GC_REALLOC(object, bytes) GC_debug_realloc(object, bytes, GC_EXTRAS)
#else
#define GC_MALLOC(bytes) GC_malloc(bytes)
#define GC_REALLOC(object, bytes) GC_realloc(object, bytes)
#endif

#ifdef GC_DEBUG
#define GC_MALLOC_ATOMIC(bytes) GC_debug_malloc_atomic(bytes, GC_EXTRAS)
#define GC_MALLOC_UNCOLLECTABLE(bytes) GC_debug_malloc_uncollectable(bytes, GC_EXTRAS)
#define GC_MALLOC_ATOMIC_UNCOLLECTABLE(bytes) GC_debug_malloc_atomic_uncollectable(bytes, GC_EXTRAS)
#define GC_MALLOC_IGNORE_OFF_PAGE(bytes) GC_debug_malloc_ignore_off_page(bytes, GC_EXTRAS)
#define GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(bytes) GC_debug_malloc_atomic_ignore_off_page(bytes, GC_EXTRAS)
#define GC_STRDUP(string) GC_debug_strdup(string, GC_EXTRAS)
#define GC_STRNDUP(string, limit) GC_debug_strndup(string, limit, GC_EXTRAS)
#define GC_WCSDUP(string) GC_debug_wcsdup(string, GC_EXTRAS)
#define GC_FREE(object) GC_debug_free(object)
#define GC_REGISTER_FINALIZER(p, f, d, of, od) GC_debug_register_finalizer(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_IGNORE_SELF(p, f, d, of, od) GC_debug_register_finalizer_ignore_self(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_NO_ORDER(p, f, d, of, od) GC_debug_register_finalizer_no_order(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_UNREACHABLE(p, f, d, of, od) GC_debug_register_finalizer_unreachable(p, f, d, of, od)
#define GC_END_STUBBORN_CHANGE(p) GC_debug_end_stubborn_change(p)
#define GC_PTR_STORE_AND_DIRTY(p, q) GC_debug_ptr_store_and_dirty(p, q)
#define GC_GENERAL_REGISTER_DISAPPEARING_LINK(link, object) \
  GC_general_register_disappearing_link(link, GC_base((void *)(object)))
#define GC_REGISTER_LONG_LINK(link, object) GC_register_long_link(link, GC_base((void *)(object)))
#define GC_REGISTER_DISPLACEMENT(offset) GC_debug_register_displacement(offset)
#define GC_PTR_STORE(p, q) (*(void **)GC_is_visible((void *)(p)) = GC_is_valid_displacement((void *)(q)))
#define GC_PTR_ADD3(x, n, type) ((type)GC_same_obj((x) + (n), (x)))
#define GC_PRE_INCR3(x, n, type) ((type)GC_pre_incr((void **)(&(x)), (n) * sizeof(*x)))
#define GC_POST_INCR3(x, n, type) ((type)GC_post_incr((void **)(&(x)), (n) * sizeof(*x)))
#define GC_PTR_ADD(x, n) GC_PTR_ADD3(x, n, __typeof__(x))
#define GC_PRE_INCR(x, n) GC_PRE_INCR3(x, n, __typeof__(x))
#define GC_POST_INCR(x) GC_POST_INCR3(x, 1, __typeof__(x))
#define GC_POST_DECR(x) GC_POST_INCR3(x, -1, __typeof__(x))
#else
#define GC_MALLOC_ATOMIC(bytes) GC_malloc_atomic(bytes)
#define GC_MALLOC_UNCOLLECTABLE(bytes) GC_malloc_uncollectable(bytes)
#define GC_MALLOC_ATOMIC_UNCOLLECTABLE(bytes) GC_malloc_atomic_uncollectable(bytes)
#define GC_MALLOC_IGNORE_OFF_PAGE(bytes) GC_malloc_ignore_off_page(bytes)
#define GC_MALLOC_ATOMIC_IGNORE_OFF_PAGE(bytes) GC_malloc_atomic_ignore_off_page(bytes)
#define GC_STRDUP(string) GC_strdup(string)
#define GC_STRNDUP(string, limit) GC_strndup(string, limit)
#define GC_WCSDUP(string) GC_wcsdup(string)
#define GC_FREE(object) GC_free(object)
#define GC_REGISTER_FINALIZER(p, f, d, of, od) GC_register_finalizer(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_IGNORE_SELF(p, f, d, of, od) GC_register_finalizer_ignore_self(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_NO_ORDER(p, f, d, of, od) GC_register_finalizer_no_order(p, f, d, of, od)
#define GC_REGISTER_FINALIZER_UNREACHABLE(p, f, d, of, od) GC_register_finalizer_unreachable(p, f, d, of, od)
#define GC_END_STUBBORN_CHANGE(p) GC_end_stubborn_change(p)
#define GC_PTR_STORE_AND_DIRTY(p, q) GC_ptr_store_and_dirty(p, q)
#define GC_GENERAL_REGISTER_DISAPPEARING_LINK(link, object) GC_general_register_disappearing_link(link, object)
#define GC_REGISTER_LONG_LINK(link, object) GC_register_long_link(link, object)
#define GC_REGISTER_DISPLACEMENT(offset) GC_register_displacement(offset)
#define GC_PTR_STORE(p, q) (*(void **)(p) = (void *)(q))
#define GC_PTR_ADD(x, n) ((x) + (n))
#define GC_PRE_INCR(x, n) ((x) += (n))
#define GC_POST_INCR(x) ((x)++)
#define GC_POST_DECR(x) ((x)--)
#endif

#define GC_MALLOC_STUBBORN(bytes) GC_MALLOC(bytes)
#define GC_NEW_STUBBORN(type) GC_NEW(type)
#define GC_CHANGE_STUBBORN(p) GC_change_stubborn(p)
#define GC_NEW(type) ((type *)GC_MALLOC(sizeof(type)))
#define GC_NEW_ATOMIC(type) ((type *)GC_MALLOC_ATOMIC(sizeof(type)))
#define GC_NEW_UNCOLLECTABLE(type) ((type *)GC_MALLOC_UNCOLLECTABLE(sizeof(type)))

/* GC_INIT starts the collector with what the program's build flags configure. */
#ifdef GC_DONT_EXPAND
#define GC_INIT_CONF_DONT_EXPAND GC_set_dont_expand(1)
#else
#define GC_INIT_CONF_DONT_EXPAND
#endif
#ifdef GC_FORCE_UNMAP_ON_GCOLLECT
#define GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT GC_set_force_unmap_on_gcollect(1)
#else
#define GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT
#endif
#ifdef GC_DONT_GC
#define GC_INIT_CONF_MAX_RETRIES (void)(GC_dont_gc = 1)
#elif defined(GC_MAX_RETRIES)
#define GC_INIT_CONF_MAX_RETRIES GC_set_max_retries(GC_MAX_RETRIES)
#else
#define GC_INIT_CONF_MAX_RETRIES
#endif
#ifdef GC_ALLOCD_BYTES_PER_FINALIZER
#define GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER GC_set_allocd_bytes_per_finalizer(GC_ALLOCD_BYTES_PER_FINALIZER)
#else
#define GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER
#endif
#ifdef GC_FREE_SPACE_DIVISOR
#define GC_INIT_CONF_FREE_SPACE_DIVISOR GC_set_free_space_divisor(GC_FREE_SPACE_DIVISOR)
#else
#define GC_INIT_CONF_FREE_SPACE_DIVISOR
#endif
#ifdef GC_FULL_FREQ
#define GC_INIT_CONF_FULL_FREQ GC_set_full_freq(GC_FULL_FREQ)
#else
#define GC_INIT_CONF_FULL_FREQ
#endif
#ifdef GC_TIME_LIMIT
#define GC_INIT_CONF_TIME_LIMIT GC_set_time_limit(GC_TIME_LIMIT)
#else
#define GC_INIT_CONF_TIME_LIMIT
#endif
#if defined(GC_MARKERS) && defined(GC_THREADS)
#define GC_INIT_CONF_MARKERS GC_set_markers_count(GC_MARKERS)
#else
#define GC_INIT_CONF_MARKERS
#endif
#if defined(GC_SIG_SUSPEND) && defined(GC_THREADS)
#define GC_INIT_CONF_SUSPEND_SIGNAL GC_set_suspend_signal(GC_SIG_SUSPEND)
#else
#define GC_INIT_CONF_SUSPEND_SIGNAL
#endif
#if defined(GC_SIG_THR_RESTART) && defined(GC_THREADS)
#define GC_INIT_CONF_THR_RESTART_SIGNAL GC_set_thr_restart_signal(GC_SIG_THR_RESTART)
#else
#define GC_INIT_CONF_THR_RESTART_SIGNAL
#endif
#ifdef GC_MAXIMUM_HEAP_SIZE
#define GC_INIT_CONF_MAXIMUM_HEAP_SIZE GC_set_max_heap_size(GC_MAXIMUM_HEAP_SIZE)
#else
#define GC_INIT_CONF_MAXIMUM_HEAP_SIZE
#endif
#ifdef GC_IGNORE_WARN
#define GC_INIT_CONF_IGNORE_WARN GC_set_warn_proc(GC_ignore_warn_proc)
#else
#define GC_INIT_CONF_IGNORE_WARN
#endif
#ifdef GC_INITIAL_HEAP_SIZE
#define GC_INIT_CONF_INITIAL_HEAP_SIZE                                                                  \
  do {                                                                                                  \
    size_t gc_init_heap = GC_get_heap_size();                                                           \
    if (gc_init_heap < (GC_INITIAL_HEAP_SIZE)) (void)GC_expand_hp((GC_INITIAL_HEAP_SIZE)-gc_init_heap); \
  } while (0)
#else
#define GC_INIT_CONF_INITIAL_HEAP_SIZE
#endif
#define GC_INIT()                            \
  {                                          \
    GC_INIT_CONF_DONT_EXPAND;                \
    GC_INIT_CONF_FORCE_UNMAP_ON_GCOLLECT;    \
    GC_INIT_CONF_MAX_RETRIES;                \
    GC_INIT_CONF_ALLOCD_BYTES_PER_FINALIZER; \
    GC_INIT_CONF_FREE_SPACE_DIVISOR;         \
    GC_INIT_CONF_FULL_FREQ;                  \
    GC_INIT_CONF_TIME_LIMIT;                 \
    GC_INIT_CONF_MARKERS;                    \
    GC_INIT_CONF_SUSPEND_SIGNAL;             \
    GC_INIT_CONF_THR_RESTART_SIGNAL;         \
    GC_INIT_CONF_MAXIMUM_HEAP_SIZE;          \
    GC_init();                               \
    GC_INIT_CONF_IGNORE_WARN;                \
    GC_INIT_CONF_INITIAL_HEAP_SIZE;          \
  }

#ifdef __cplusplus
}
#endif

#ifdef GC_PTHREADS
#include "gc_pthread_redirects.h"
#endif

#endif
