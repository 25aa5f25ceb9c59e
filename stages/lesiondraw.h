/* lesiondraw: what eval shows of lesions: slices with the reference and what was found, and the curves of all models in
 * one picture. PNG. Local. */
#ifndef COV_STAGES_LESIONDRAW_H
#define COV_STAGES_LESIONDRAW_H
#include "stages/lesionreport.h"

/* The best, the median and the worst slice of a study by Dice (of a healthy one: the three with most found), reference
 * green, found red, boxes of score >= threshold yellow with their scores, lung grey. lung NULL: none. mask: what was
 * found, as scored. */
status lesiondraw_study(const char *path, const char *model, const evalset_study *s, const uint8_t *lung,
                        const findings *f, float threshold, const uint8_t *mask, const lesioneval_row *row);
/* FOLDER/froc.png, FOLDER/calibration.png */
status lesiondraw_curves(const lesionreport *r, const char *folder);
#endif
