/* The collector's own threads: they mark when told to and sleep otherwise.
 *
 * Started when first needed (programs fork, and count their threads); a fork's child starts anew.  They are no mutators,
 * take no signals and use nothing of the C library while the world is stopped. */
#ifndef MIDDEN_GC_MARKERS_H
#define MIDDEN_GC_MARKERS_H

enum { MARKERS_MAX = 64 };

/* Makes sure that `count` threads, the caller included, can mark.  May allocate; not with the world stopped.  Returns how
 * many there are, fewer where the system refuses. */
unsigned markers_prepare(unsigned count);

/* Calls job(argument, 0) on this thread and job(argument, i) for i below `count` on threads of their own, as far as those
 * wake up before the first is done; returns when all that began have returned.  The job must therefore be one that any
 * number of threads can finish.  `count` is at most what markers_prepare returned. */
void markers_run(unsigned count, void (*job)(void *argument, unsigned marker), void *argument);

/* The same beside the program, for short jobs, after each of which the helpers give way. */
void markers_run_beside(unsigned count, void (*job)(void *argument, unsigned marker), void *argument);

/* A marker beside the program, between slices: wait_give_way. */
void markers_give_way(unsigned marker);

/* In a fork's child: the threads are gone. */
void markers_forget(void);

#endif
