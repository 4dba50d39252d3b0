/* The shapes of free memory that the page heap is measured with, and the steps that work on each.
 *
 * A shape fills the arena of a lab to its end and frees part of it.  A step is one allocation and one free, or a few,
 * and leaves the shape as it was, more or less, however often it is repeated. */
#ifndef BENCH_PAGEHEAP_SHAPES_H
#define BENCH_PAGEHEAP_SHAPES_H

#include "lab.h"

struct shape {
  const char *name;
  const char *summary;
  void (*build)(struct lab *lab);
  unsigned (*step)(struct lab *lab); /* returns how many spans it allocated and freed, together */
};

/* Ends with one without a name. */
extern const struct shape shapes[];

#endif
