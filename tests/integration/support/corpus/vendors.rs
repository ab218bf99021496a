//! Forms of tokens that vendors document, written down apart from the rules so that one checks the other.
//!
//! `{class count}`: `h` hexadecimal, `H` in capitals too, `d` digits, `u` capitals and digits, `l` small letters and
//! digits, `w` letters and digits, `b` with `-` and `_`, `a` letters, `B` base64, `U` base32.

use super::{ALNUM, Random};

#[rustfmt::skip]
pub const VENDORS: &[&str] = &[
    "AKIA{U16}", "ASIA{U16}", "ABIA{U16}", "ACCA{U16}", "ABSK{w132}", "AIza{b35}", "GOCSPX-{b28}", "ya29.{b60}",
    "1//0{b60}", "AAAA{b7}:{b140}", "{w3}8Q~{w34}", "dop_v1_{h64}", "doo_v1_{h64}", "dor_v1_{h64}", "dapi{h32}",
    "LTAI{w20}", "AKID{w32}", "HRKU-AA{b58}", "v1.0-{h24}-{h146}", "pscale_tkn_{b43}", "pscale_pw_{b43}",
    "pscale_oauth_{b43}", "sbp_{h40}", "sb_secret_{b22}_{b8}", "fo1_{b43}", "fm2_{B100}", "fm1r_{B100}",
    "nfp_{w36}", "rnd_{w32}", "vercel_blob_rw_{w16}_{w30}", "ddp_{w36}", "tk-us-{b48}", "pul-{h40}",
    "{w14}.atlasv1.{b64}", "ico-{w32}", "pat.{b22}.{h24}.{w20}", "CCDB1_{w22}_{w40}", "mdb_sa_sk_{b40}",
    "4b1d{w38}", "AVNS_{b19}", "sha256~{b43}", "ghp_{w36}", "gho_{w36}", "ghu_{w36}", "ghs_{w36}", "ghr_{w36}",
    "github_pat_{w22}_{w59}", "glpat-{b20}", "glpat-{b27}.{l2}.{l9}", "gldt-{b20}", "glrt-{b20}",
    "glcbt-{w2}_{b20}", "glptt-{h40}", "glft-{b20}", "glsoat-{b20}", "glagent-{b50}", "gloas-{b64}", "glimt-{b25}",
    "glffct-{b20}", "GR1348941{b20}", "ATBB{w32}", "npm_{w36}", "pypi-AgEIcHlwaS5vcmc{b100}", "rubygems_{h48}",
    "cio{w32}", "oy2{l43}", "CLOJARS_{l60}", "ovsxat_{h8}-{h4}-{h4}-{h4}-{h12}", "dckr_pat_{b27}",
    "dckr_oat_{b32}", "AKCp{w69}", "cmVmd{w59}", "bkua_{h40}", "CCIPAT_{w22}_{h40}", "API-{u26}", "squ_{h40}",
    "sqp_{h40}", "sqa_{h40}", "sgp_{h16}_{h40}", "slk_{h64}", "snyk_uat.{h8}.{b40}", "PMAK-{h24}-{h34}",
    "PMAT-{u26}", "rdme_{l70}", "ATATT3{b186}", "ATCTT3xFfG{b171}={u8}", "pnu_{w36}", "endr+{b16}",
    "hawk.{b20}.{b20}", "sk-{w20}T3BlbkFJ{w20}", "sk-proj-{b74}T3BlbkFJ{b74}", "sk-svcacct-{b74}",
    "sk-admin-{b58}", "sk-ant-api03-{b93}AA", "sk-ant-admin01-{b93}AA", "hf_{a34}", "api_org_{a34}", "r8_{w37}",
    "gsk_{w52}", "xai-{w80}", "pplx-{w48}", "lsv2_pt_{h32}_{h10}", "sk-lf-{h8}-{h4}-{h4}-{h4}-{h12}",
    "sk-or-v1-{h64}", "sk-{h32}", "sk_{h48}", "nvapi-{b64}", "csk-{l48}", "tgp_v1_{b43}", "pcsk_{w6}_{w63}",
    "wandb_v1_{b77}", "rpa_{u40}", "tvly-dev-{w32}", "fc-{h32}", "jina_{h32}{b28}", "pat_{w64}",
    "xoxb-{d12}-{d12}-{w24}", "xoxp-{d12}-{d12}-{d12}-{h32}", "xapp-1-{u11}-{d13}-{h64}", "xoxe.xoxp-1-{u163}",
    "xoxe-1-{u146}", "xoxa-2-{d12}-{h32}", "xoxs-{d12}-{h32}",
    "https://hooks.slack.com/services/T{u10}/B{u10}/{w24}", "https://discord.com/api/webhooks/{d18}/{b68}",
    "M{w23}.{b6}.{b38}",
    "https://x.webhook.office.com/webhookb2/{h8}-{h4}-{h4}-{h4}-{h12}@{h8}-{h4}-{h4}-{h4}-{h12}/IncomingWebhook/{h32}/{h8}-{h4}-{h4}-{h4}-{h12}",
    "{d10}:AA{b33}", "SK{h32}", "SG.{b22}.{b43}", "xkeysib-{h64}-{w16}", "key-{h32}", "pubkey-{h32}", "{h32}-us20",
    "mlsn.{h64}", "sk.eyJ1{w80}.{b22}", "pk.{l60}.{l22}", "re_{w8}_{w24}", "os_v2_app_{l103}", "KEY{H32}_{w22}",
    "duffel_live_{b43}", "fio-u-{b64}", "sk_live_{w24}", "rk_live_{w24}", "sk_test_{w99}", "whsec_{w32}",
    "shpat_{h32}", "shpca_{h32}", "shppa_{h32}", "shpss_{h32}", "sq0atp-{b22}", "sq0csp-{b43}", "EAAAl{b59}",
    "EZAK{w54}", "EZTK{w54}", "sk_live_{h40}", "FLWSECK_TEST-{h32}-X", "FLWPUBK_TEST-{h32}-X", "live_{b40}",
    "live_{h35}", "test_pub_{h31}", "access-production-{h8}-{h4}-{h4}-{h4}-{h12}", "rzp_live_{w14}",
    "cfsk_ma_prod_{h32}_{h8}", "Mid-server-{b24}", "pdl_live_apikey_{l26}_{w22}_{w3}", "shippo_live_{h40}",
    "sc_{l15}.{l5}.acc_{l20}.{w60}", "lin_api_{w40}", "ntn_{d11}{w35}", "secret_{w43}", "figd_{b40}", "sl.{b135}",
    "pat{w14}.{h64}", "1/{d16}:{h32}", "tfp_{b59}", "CFPAT-{b43}", "pat-na1-{h8}-{h4}-{h4}-{h4}-{h12}",
    "{w6}_{w29}_mmk", "dp.pt.{w43}", "dp.st.dev.{w43}", "hvs.{b90}", "hvb.{b138}", "A3-{u6}-{u11}-{u5}-{u5}-{u5}",
    "ops_eyJ{w250}", "AGE-SECRET-KEY-1{u58}", "sm_pat_{w16}", "s-s4t2ud-{h64}", "dnkey-{b26}-{b52}",
    "waka_{h8}-{h4}-{h4}-{h4}-{h12}", "pina_{w52}", "EAACEdEose0cBA{w150}", "{d15}|{b27}", "lip_{w20}",
    "aio_{w28}", "BBFF-{w30}", "p8e-{b32}", "db-{w29}", "samsara_api_{w30}", "NRAK-{u27}", "NRII-{b32}",
    "NRJS-{h19}", "glsa_{w32}_{h8}", "glc_{w60}", "eyJrIjoi{w80}", "sntrys_eyJpYXQiO{w100}", "sntryu_{h64}",
    "dt0c01.{U24}.{U64}", "sdk-{h8}-{h4}-{h4}-{h4}-{h12}", "phx_{w43}", "xaat-{h8}-{h4}-{h4}-{h4}-{h12}",
    "tskey-auth-{w17}-{w32}", "tskey-api-{w17}-{w32}", "p.eyJ{w60}.{b43}", "tr_prod_{w24}", "zpka_{h32}_{h8}",
    "eyJhbGciOiJIUzI1NiJ9.eyJ{w60}.{b43}", "eyJhbGciOiJub25lIn0.eyJ{w60}.",
    "eyJhbGciOiJSU0EtT0FFUCJ9{w8}.{b86}.{b16}.{b60}.{b22}", "amzn.mws.{h8}-{h4}-{h4}-{h4}-{h12}",
    "bce-v3/ALTAK-{w21}/{h40}", "AQVN{b36}", "t1.{w40}.{b86}", "YC{b38}", "SCW{u17}", "secret-live-{b36}",
    "apify_api_{w36}", "$aact_prod_{w160}", "key_{h64}", "AstraCS:{w24}:{h64}", "SWMTKN-1-{l50}-{l25}",
    "SWMKEY-1-{B43}", "dvc_server_{h8}_{h4}_{h36}", "dvc_client_{w40}", "dvc_mobile_{w40}", "configcat-sdk-1/{b22}/{b22}", "gcntfy-{w20}-{h8}-{h4}-{h4}-{h4}-{h12}",
    "ion_{w42}", "mka_{w40}", "xoxd-{b120}", "xoxc-{d12}-{d12}-{d12}-{h64}", "jca_{w36}", "essu_{w80}", "essa_{w80}", "AIK_CI_{w64}", "AIK_SECRET_{w64}",
    "EXO{h24}", "xnd_production_{w60}", "sk-helicone-{w7}-{w7}-{w7}-{w7}", "e2b_{h40}", "m0-{w40}", "esecret_{w26}",
    "signkey-prod-{h64}", "nyk_v0_{w64}", "ATTA{h64}", "vtwn_{w27}", "retool_{w30}", "BSA{b28}",
    "STS.{w24}", "pk_{h34}", "sk_sbox_{l26}", "xoxe.xoxb-1-{u163}", "sk-api-{b80}", "hvr.{b90}", "rk_test_{w24}", "dapi{h32}-2", "ghp_{w36}", "glpat-{b27}.01.{l9}", "cal_live_{h32}", "sk_prod_{w24}", 
    "nfc_{w40}", "polar_oat_{w40}", "ory_at_{b43}",
];

/// A token of this form.
pub fn made(form: &str, random: &mut Random) -> String {
    let (mut text, mut rest) = (String::new(), form);
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        let close = rest.find('}').expect("closed");
        let (class, count) = rest[open + 1..close].split_at(1);
        let of = match class {
            "h" => "0123456789abcdef".to_owned(),
            "H" => "0123456789ABCDEF".to_owned(),
            "d" => "0123456789".to_owned(),
            "u" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".to_owned(),
            "U" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".to_owned(),
            "l" => "abcdefghijklmnopqrstuvwxyz0123456789".to_owned(),
            "a" => "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned(),
            "b" => format!("{ALNUM}-_"),
            "B" => format!("{ALNUM}+/"),
            _ => ALNUM.to_owned(),
        };
        text.push_str(&random.text(&of, count.parse().expect("a count")));
        rest = &rest[close + 1..];
    }
    text.push_str(rest);
    text
}
