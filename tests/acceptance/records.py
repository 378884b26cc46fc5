"""The methods of the acceptance, one record each: to add a host is to add a record."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ORIGINAL = "Dassl.pytorch"  # folder of KaiyangZhou/Dassl.pytorch, beside the checkouts
EMBEDDED = ""  # the embedded toolbox, because there is no Dassl
# Of OxfordPets, because CoPrompt has descriptions of its classes only.
NOVEL = ("siamese", "ragdoll", "maine coon", "saint bernard", "pomeranian", "havanese")
TEMPLATE = "a photo of a {}, a type of pet."


@dataclass(frozen=True)
class Host:
    """A method in its checkout, and what it needs to run on a CLIP of two small layers.

    Args:
        trainer: X, whose SAR_X is tried.
        checkout: the folder with its train.py, below that of all checkouts.
        config: its configuration file, below the folder of train.py.
        means: what SAR_X means here, for the table.
        model: the name that it saves its weights under.
        options: configuration keys and values.
        dassl: folders of the Dassls that it runs on, below that of all checkouts.
        no_resume: why it is not resumed, if so.
        files: what else must lie beside its train.py: path there -> file of the acceptance's world.
        refused: what SAR_X says instead of training, if so.
    """

    trainer: str
    checkout: str
    config: str
    means: str
    model: str = "prompt_learner"
    options: tuple[str, ...] = ()
    dassl: tuple[str, ...] = (EMBEDDED,)
    no_resume: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def repository(self) -> str:
        """The folder of its repository, below that of all checkouts."""
        return self.checkout.partition("/")[0]


HOSTS = {
    host.trainer: host
    for host in (
        Host(
            "CoOp",
            "CoOp",
            "configs/trainers/CoOp/vit_b16_ctxv1.yaml",
            "the text features of its prompts",
            dassl=(ORIGINAL, EMBEDDED),
        ),
        Host(
            "CoCoOp",
            "CoOp",
            "configs/trainers/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1.yaml",
            "the text features of one context for each step, the mean over its batch; the meta-net "
            "learns from it, too",
            dassl=(ORIGINAL, EMBEDDED),
        ),
        Host(
            "KgCoOp",
            "KgCoOp/KgCoOp",
            "configs/trainers/KgCoOp/vit_b16_ep100_ctxv1.yaml",
            "CoOp's, beside KgCoOp's own term, which anchors each class by itself",
            options=("TRAINER.COOP.N_CTX", "4", "TRAINER.COOP.W", "8.0"),
            dassl=(ORIGINAL, EMBEDDED),
        ),
        Host(
            "MaPLe",
            "multimodal-prompt-learning",
            "configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml",
            "text features with the deep text prompts; the visual prompts learn from it through "
            "the text prompts that they are made from",
            "MultiModalPromptLearner",
            ("TRAINER.MAPLE.PROMPT_DEPTH", "2"),
            (ORIGINAL, EMBEDDED),
        ),
        Host(
            "PromptSRC",
            "PromptSRC",
            "configs/trainers/PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx.yaml",
            "text features with the deep prompts in the blocks; the visual prompts have no part "
            "in it",
            "VLPromptLearner",
            (
                *("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "2"),
                *("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "2", "TRAINER.PROMPTSRC.GPA_MEAN", "2"),
            ),
            (ORIGINAL, EMBEDDED),
            no_resume="a resumed PromptSRC run loses its average over the epochs",
        ),
        Host(
            "IVLP",
            "multimodal-prompt-learning",
            "configs/trainers/IVLP/vit_b16_c2_ep5_batch4_2+2ctx.yaml",
            "as in PromptSRC",
            "VLPromptLearner",
            (
                *("TRAINER.IVLP.PROMPT_DEPTH_VISION", "2"),
                *("TRAINER.IVLP.PROMPT_DEPTH_TEXT", "2"),
            ),
        ),
        Host(
            "ProGrad",
            "Prompt-align/ProGrad.public",
            "configs/trainers/ProGrad/rn50_ep50.yaml",
            "CoOp's; added to the projected gradient, not projected itself",
            dassl=("Prompt-align/Dassl.ProGrad.pytorch",),
        ),
        Host(
            "TCP",
            "Textual-based_Class-aware_prompt_tuning",
            "configs/trainers/TCP/vit_b16_ep100_ctxv1.yaml",
            "text features with the class tokens: those of a novel class come from TCP's own "
            "template and meta-net, which learns from it, too",
        ),
        Host(
            "ExtrasLinearProbeCoOp",
            "DePT",
            "configs/trainers/ExtrasLinearProbeCoOp/vit_b16_ep10_bs4_lr35.yaml",
            "DePT's text features, before its channel-wise scaling; the linear probe has no part "
            "in it",
            "PromptLearner",
        ),
        Host(
            "CoOp_ATP",
            "ATPrompt",
            "configs/trainers/CoOp/vit_b16.yaml",
            "text features of prompts with the attribute words; the attributes' contexts learn "
            "from it, too",
            options=("TRAINER.ATPROMPT.USE_ATPROMPT", "True"),
            dassl=("ATPrompt/Dassl.pytorch", EMBEDDED),
        ),
        Host(
            "CoPrompt",
            "CoPrompt",
            "configs/trainers/coprompt.yaml",
            "text features before the adapter, given by CoPrompt's own encoder at all positions",
            "MultiModalPromptLearner",
        ),
        Host(
            "LASP",
            "lasp",
            "configs/LASP/vit_b16_c4_ep25_batch32_cls_t2t_5_wcl_25_g1_b_lr32.yaml",
            "text features before LASP's correction vector is added",
        ),
        Host(
            "PLOT",
            "PLOT/plot-coop",
            "configs/trainers/PLOT/rn50.yaml",
            "several prompts for each class have no one similarity of two classes",
            refused="PromptLearner has 16 prompts for 4 classes; SAR needs one prompt per class",
        ),
        Host(
            "PromptKD",
            "PromptKD",
            "configs/trainers/PromptKD/vit_b16_c2_ep20_batch8_4+4ctx.yaml",
            "its student learns no text prompts; align its teacher, a PromptSRC",
            options=("TRAINER.PROMPTKD.TEACHER_NAME", "ViT-B/16"),
            files={
                "clip/ViT-B-16.pt": "clip.pt",
                "teacher_model/OxfordPets/VLPromptLearner/model-best.pth.tar": "teacher.pt",
            },
            refused="CustomCLIP has no prompt_learner; SAR needs a model that learns text prompts",
        ),
    )
}
