/* optim_body: one piece of an optimiser step; see optim.c. No include guard: compiled once an instruction set. */

VEC_LEAF void VEC(leaf_sgd)(const optim_rates *r, size_t n, float *restrict w, const float *restrict g, float *restrict m)
{
    const float scale = r->o.grad_scale, decay = r->o.decay, momentum = r->o.momentum, rate = r->o.rate;
    for (size_t i = 0; i < n; i++) {
        float v = momentum * m[i] + (scale * g[i] + decay * w[i]);
        m[i] = v;
        w[i] -= rate * v;
    }
}

VEC_LEAF void VEC(leaf_adamw)(const optim_rates *r, size_t n, float *restrict w, const float *restrict g,
                              float *restrict m, float *restrict v)
{
    const optim_step o = r->o;
    for (size_t i = 0; i < n; i++) {
        float x = o.grad_scale * g[i];
        m[i] = o.beta1 * m[i] + (1.0f - o.beta1) * x;
        v[i] = o.beta2 * v[i] + (1.0f - o.beta2) * x * x;
        w[i] -= o.rate * (m[i] * r->first / (sqrtf(v[i] * r->second) + o.eps) + o.decay * w[i]);
    }
}
