/* Allocation for the other entry points. */
#ifndef MIDDEN_API_ALLOCATE_H
#define MIDDEN_API_ALLOCATE_H

#include <stddef.h>

/* An object of any kind but MIDDEN_TYPED, the library's own included.  May collect.  NULL where there is no memory, after
 * the program's handler was told. */
void *allocate_object(unsigned kind, size_t bytes);

/* At start: says how an object is freed whose freeing had to wait. */
void allocate_init(void);

#endif
