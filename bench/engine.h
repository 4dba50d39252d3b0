/* What a workload may use of a memory manager.
 *
 * Every workload is compiled once for each engine; one of ENGINE_MIDDEN, ENGINE_LIBGC and ENGINE_MALLOC says which, and
 * the header chosen below defines these as static inline functions over the engine's public interface:
 *
 *   void *engine_alloc(size_t bytes)        zeroed, may hold pointers to other objects
 *   void *engine_alloc_data(size_t bytes)   holds no pointers, contents undefined
 *   void engine_store(void *slot, const void *value)   stores a pointer; a new object that only its thread has seen is
 *                                                      filled by plain assignment, as a compiler's constructors do
 *   void engine_free(void *object)          frees, where the engine has no collector; else does nothing
 *   void engine_collect(void)               a full collection; nothing without a collector
 *   void engine_disable(void), engine_enable(void)   no collection happens between the two
 *   void engine_finalizer(void *object, void (*function)(void *object, void *argument))
 *   void engine_weak_link(void **link, void *object)   *link is cleared when the object dies
 *   void engine_run_finalizers(void)                   those that are ready; all three do nothing without a collector
 *   void engine_blocking_call(void *(*function)(void *), void *argument)   the function waits, and touches no object
 *   int engine_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
 *   int engine_thread_join(pthread_t thread)
 *
 * and the constant ENGINE_COLLECTS.  Workloads do not test for NULL: one that runs out of memory dies by its first store,
 * and the driver reports that.  The functions below are called outside the measured loops and live in engine/NAME.c. */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(ENGINE_MIDDEN)
#include "engine/midden.h"
#elif defined(ENGINE_LIBGC)
#include "engine/libgc.h"
#elif defined(ENGINE_MALLOC)
#include "engine/malloc.h"
#else
#error "define ENGINE_MIDDEN, ENGINE_LIBGC or ENGINE_MALLOC"
#endif

struct histogram;

struct engine_setup {
  unsigned markers;  /* threads that mark; 0: the engine's own choice */
  size_t heap_bytes; /* a heap size that is not worth collecting; 0: the engine's own choice */
  const char *mode;  /* "default", or a way to collect that the engine has */
  bool events;       /* the bench listens to the engine's events */
};

/* Starts the engine, by the main thread, before anything else here.  A mode that it does not have ends the process. */
void engine_start(const struct engine_setup *setup);

/* Name and version as the loaded library tells them. */
const char *engine_name(void);

/* The name of a function of the engine, by which the file that it was loaded from is found. */
const char *engine_symbol(void);

/* Collections since the start, and bytes that the engine holds for objects; 0 where it does not tell. */
uint64_t engine_collections(void);
size_t engine_heap_bytes(void);

/* CPU time of the collector's own threads and phases, or 0 where the engine does not tell; the part of it that went to
 * marking, and the objects that the last collection marked. */
uint64_t engine_collector_cpu_ns(void);
uint64_t engine_marking_cpu_ns(void);
uint64_t engine_objects_marked(void);

/* Adds all pauses so far, by the engine's own account. */
void engine_pauses(struct histogram *pauses);

/* Adds to the result what only this engine can say. */
void engine_report(void);

#endif
