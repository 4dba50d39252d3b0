/* What the parts of the differential test share: the sequence of decisions, the log, collections.
 *
 * The program makes calls of the libgc interface that follow from a seed alone, and prints each answer that the interface
 * determines.  Run on midden's libgc.so.1 and on the stock library it must print the same.  So no address, no exact size
 * and no time may be printed, and nothing may be decided by one.
 *
 * Stacks are read conservatively, so that "this object died" can only be asked of many: they are made in COPIES, and
 * what became of them is printed as none, some or most. */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#ifndef GC_THREADS
#define GC_THREADS
#endif
#define GC_NO_THREAD_REDIRECTS
#define GC_ATTR_DEPRECATED /* the variables are part of the interface */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "gc/gc.h"

#define NOINLINE __attribute__((noinline))

/* What holds on any library. */
#define REQUIRE(condition)                                                    \
  do {                                                                        \
    if (!(condition)) {                                                       \
      say("FAILED %s:%d: %s", __FILE__, __LINE__, #condition);                \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

enum { COPIES = 48 };

/* ---- main.c ---- */

/* A number below the bound; whether something of that many percent happens. */
size_t any_below(size_t bound);
bool any_chance(unsigned percent);

/* A size for an object: often small or just beside a boundary, now and then large. */
size_t any_size(void);

/* A line of the log. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* `none` only where it is none; `most` from three quarters on. */
const char *share(int count, int of);

/* One collection, or as many as let go of all that is dead.  Both overwrite what dead calls left on the stack. */
void collect(void);
void settle(void);

/* Until it is called with false no collection begins by itself; and one that is under way, which would end at any call, is ended
 * first. */
void collect_only_asked(bool only);

/* Whether pointers into objects count as pointers to them, chosen when the program starts. */
extern bool interior_pointers;

/* Links that watch objects; an index is free again once it was counted. */
void watch(int copy, void *object);
int count_dead(void); /* of COPIES; ends the watch */

/* ---- the parts: each function makes one step ---- */

void objects_init(void);
void objects_step(void);
void objects_check(void);   /* all that is held is as it was left */
void objects_release(void); /* frees a few, drops the rest */

void links_step(void);
void links_dead_step(void);

void finalizers_init(void);
void finalizers_step(void);
void finalizers_at_end(void);

void kinds_init(void);
void kinds_step(void);

void roots_step(void);
void settings_step(void);
void collections_step(void);
void queries_step(void);
void threads_step(void);
void shortage_step(void);

/* What else objects.c is asked: an object that stays held until the next step, and all that are. */
enum { OBJECTS = 64 };
void *objects_any(void);          /* may be NULL */
void *objects_at(int index);      /* may be NULL */
bool objects_is_plain(int index); /* its address is its base, and no debug header is before it */
size_t objects_bytes_at(int index);
void objects_on_free(void (*before)(void *object)); /* is told of each object before it is freed or moved */

#endif
