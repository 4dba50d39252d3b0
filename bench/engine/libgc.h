/* The Boehm collector's interface as an engine.  One executable serves the stock library and midden's drop-in: it knows
 * the library by its soname only, and LD_LIBRARY_PATH decides which file the loader takes. */
#ifndef BENCH_ENGINE_LIBGC_H
#define BENCH_ENGINE_LIBGC_H

#ifndef GC_THREADS
#define GC_THREADS
#endif
#include <gc/gc.h>
#include <pthread.h>

enum { ENGINE_COLLECTS = 1 };

static inline void *engine_alloc(size_t bytes) { return GC_malloc(bytes); }
static inline void *engine_alloc_data(size_t bytes) { return GC_malloc_atomic(bytes); }
static inline void engine_store(void *slot, const void *value) {
  __atomic_store_n((const void **)slot, value, __ATOMIC_RELEASE);
}
static inline void engine_free(void *object) { (void)object; }
static inline void engine_collect(void) { GC_gcollect(); }
static inline void engine_disable(void) { GC_disable(); }
static inline void engine_enable(void) { GC_enable(); }

/* Finalizers run in the thread that collects, as soon as it has collected. */
static inline void engine_finalizer(void *object, void (*function)(void *object, void *argument)) {
  GC_register_finalizer(object, function, NULL, NULL, NULL);
}
static inline void engine_weak_link(void **link, void *object) { GC_general_register_disappearing_link(link, object); }
static inline void engine_run_finalizers(void) { GC_invoke_finalizers(); }

static inline void engine_blocking_call(void *(*function)(void *), void *argument) {
  GC_do_blocking(function, argument);
}

static inline int engine_thread_start(pthread_t *thread, void *(*run)(void *), void *argument) {
  return GC_pthread_create(thread, NULL, run, argument);
}

static inline int engine_thread_join(pthread_t thread) { return GC_pthread_join(thread, NULL); }

#endif
