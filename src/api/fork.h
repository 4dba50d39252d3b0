/* Forking: the child gets a heap at rest, with the forking thread as its only mutator. */
#ifndef MIDDEN_API_FORK_H
#define MIDDEN_API_FORK_H

void fork_init(void);

#endif
