/* opacity: what a made-up opacity looks like: how dense it is, how its edge fades and how ragged it is. stages/augment
 * draws opacities into the planes that the lung networks learn from, stages/consolidation into volumes that they are
 * scored on. An opacity is a unit disc or ball around a place; its shape on a grid is the drawer's. Local. */
#ifndef COV_STAGES_OPACITY_H
#define COV_STAGES_OPACITY_H
#include "stages/rng.h"

typedef struct opacity {
    float edge;      /* share of the radius over which it fades */
    float hu, grain; /* density, and its noise */
    float ragged;    /* how much smooth noise eats into it */
    float cell;      /* the noise's size, share of the picture's width until the drawer scales it */
    uint64_t key;    /* the noise's stream */
} opacity;

/* PLEURAL: dense, as it lies at the pleura, with an edge less ragged; GLASS: ground glass. */
typedef enum opacity_kind { OPACITY_PLEURAL, OPACITY_DENSE, OPACITY_GLASS } opacity_kind;
opacity opacity_draw(rng *r, opacity_kind kind);

/* Smooth noise in [0, 1]: a lattice of hashed values, linear between them. z 0 on a plane. */
float opacity_noise(uint64_t key, float z, float y, float x);
/* Share of the density that is the opacity's, at this distance from the middle (1: the edge), where the noise is so. */
float opacity_cover(const opacity *o, float distance, float noise);
/* The distance at which it covers one half; positive for the kinds that are dense. */
float opacity_half(const opacity *o, float noise);
#endif
