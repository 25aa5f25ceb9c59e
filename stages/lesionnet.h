/* lesionnet: the table of the lesion networks, and their graphs for training and for inference, built with net.h.
 *
 *   spatial   ResNet50 encoder to stride 16 and decoder: the key slice's lesion mask (stages/resolver)
 *   temporal  the same, the frozen spatial encoder's features entering level by level; and the period (stages/resolver)
 *   st, sp    encoders without decoders, then the detector; st: both fused, sp: spatial alone (stages/detector)
 *   maskrcnn  Mask R-CNN, ResNet50 + FPN (stages/baselines)
 *   unet      U-Net, ResNet50 encoder (stages/baselines)
 *
 * Every model is trained on the same inputs; parameters that two models share have the same names in both. Encoders of
 * st and sp are frozen [a preset's choice, `tune`]. Rows and columns are multiples of LESIONNET_STRIDE and fixed:
 * another size is another net with the same parameters (stages/netio between them). Sampling of anchors and regions is
 * a pure function of the seed and the sample's image and boxes. Local. */
#ifndef COV_STAGES_LESIONNET_H
#define COV_STAGES_LESIONNET_H
#include "kernels/net.h"
#include "stages/rcnn.h"

enum { LESIONNET_STRIDE = 32, LESIONNET_BOXES = 64, LESIONNET_LOSSES = 8, LESIONNET_MAPS = 4, LESIONNET_PERIODS = 4 };

typedef enum lesionnet_model {
    LESIONNET_SPATIAL,
    LESIONNET_TEMPORAL,
    LESIONNET_ST,
    LESIONNET_SP,
    LESIONNET_MASKRCNN,
    LESIONNET_UNET,
    LESIONNET_COUNT
} lesionnet_model;

const char *lesionnet_name(lesionnet_model m); /* "spatial" "temporal" "st" "sp" "maskrcnn" "unet" */
status lesionnet_named(const char *name, lesionnet_model *out);     /* COV_USAGE names those there are */
/* Which model's file a training starts from: temporal and sp: spatial; st: temporal (its file holds the spatial encoder
 * too); else -1. Such a training takes the parameters of the same name (netio_take), and leaves the decoders behind. */
int lesionnet_starts_from(lesionnet_model m);
int lesionnet_detects(lesionnet_model m);    /* 1: st, sp, maskrcnn: boxes and masks; 0: a probability for each pixel */
int lesionnet_has_period(lesionnet_model m); /* temporal, st */

/* A preset: widths and sizes, one row of the table in docs/METHOD.md. */
typedef struct lesionnet_spec {
    const char *name;
    const char *base; /* the preset of the file that a training starts from */
    int width;     /* ResNet50's; the paper's 64 */
    int features;  /* channels after docking, and of the FPN; 256 */
    int fine;      /* channels of the stride 4 map that joins the ROI features */
    int hidden;    /* of the box branch's two linear layers */
    int tiny;      /* widths tiny, 2 tiny, 4 tiny, 8 tiny of the tiny U-Net in the mask branch */
    int tune;      /* 1: encoders of st and sp are trained with the detector */
    int anchors;   /* sampled an image for the RPN's losses */
    int regions;   /* sampled an image for the box branch, a quarter of them lesions at most */
    int masks;     /* regions an image for the mask branch */
    int candidates; /* anchors of a level that are decoded */
    int proposals; /* an image, after NMS */
    int found;     /* findings an image at most */
} lesionnet_spec;
/* "compact", "paper", "compact-tuned"; COV_USAGE names them. */
status lesionnet_preset(const char *name, const lesionnet_spec **out);

/* What a training step is given; every model has the same inputs and uses what it needs. */
typedef struct lesionnet_inputs {
    net_t image;     /* (n,h,w,3) F32 in [0,1]: slices z-1, z, z+1; outside the lung 0 */
    net_t target;    /* (n,h,w,1) F32 0/1: the key slice's lesion */
    net_t period;    /* (n,1,1,1) I32: 0 healthy, 1 early, 2 advanced, 3 severe, -1 no label */
    /* (n,LESIONNET_BOXES,1,5) F32, of the lesions (8-connected): y0 x0 y1 x1 (half-open, pixels of the input) and 1,
     * largest first; then zeros */
    net_t boxes;
} lesionnet_inputs;

typedef struct lesionnet_steps lesionnet_steps; /* what host steps of a graph need; private */

typedef struct lesionnet {
    lesionnet_inputs in;
    int losses;
    net_t loss[LESIONNET_LOSSES];
    float weight[LESIONNET_LOSSES];
    /* "dice" "bce" "deep dice" "deep bce" "period" "objectness" "proposal" "class" "box" "mask"; static */
    const char *loss_name[LESIONNET_LOSSES];
    lesionnet_steps *steps;                  /* owned: lesionnet_free after net_free */
} lesionnet;

/* Adds the graph of a training of model m to n (a fresh net); the caller compiles it with the losses. */
status lesionnet_build_training(net *n, lesionnet_model m, const char *preset, int64_t batch, int64_t rows,
                                int64_t cols, uint64_t seed, lesionnet *out);
void lesionnet_free(lesionnet *g); /* what *g owns, not g; accepts a zeroed one */

/* Inference in two graphs. The first looks at whole inputs; the second, for detecting models, makes masks of few
 * regions. */
typedef struct lesionnet_find {
    net_t image;       /* input (n,h,w,3) */
    net_t probability; /* output (n,h,w,1) of models that do not detect; else -1 */
    net_t period;      /* output (n,1,1,LESIONNET_PERIODS), probabilities; -1: no head */
    net_t found;       /* output (n,found,1,RCNN_FOUND), see rcnn_find; -1: the model does not detect */
    net_t map[LESIONNET_MAPS]; /* outputs that the second graph reads */
    int maps;
    lesionnet_steps *steps; /* owned: lesionnet_find_free after net_free */
} lesionnet_find;
status lesionnet_build_find(net *n, lesionnet_model m, const char *preset, int64_t batch, int64_t rows, int64_t cols,
                            lesionnet_find *out);
void lesionnet_find_free(lesionnet_find *g);

typedef struct lesionnet_cut {
    net_t map[LESIONNET_MAPS]; /* inputs: net_set_input_from(map[k], first net, find.map[k]) */
    int maps;
    net_t rois;        /* constant (n,regions,1,4) */
    net_t probability; /* output (n*regions,size,size,1) */
    int size;
} lesionnet_cut;
/* regions an image; the shapes are those of `find` in `first`, which is on the same device. */
status lesionnet_build_cut(net *n, lesionnet_model m, const char *preset, const net *first, const lesionnet_find *find,
                           int regions, lesionnet_cut *out);
#endif
