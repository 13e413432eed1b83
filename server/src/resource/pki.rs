//! The certificates of the resource API, made at the first start: an authority, what the server shows, and what the
//! first user has. Files, in the names that other tools use for them.
//!
//! Members of a cluster that are to be reached with one `admin.kubeconfig` share the folder, or copies of `ca.crt` and
//! `ca.key`; what is not there is made.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::tls::Secure;

/// Who may do everything, as upstream names the group.
pub(super) const MASTERS: &str = "system:masters";

/// How long certificates are good for, in days.
const YEARS: i32 = 10;

/// A folder of certificates.
pub struct Pki {
    folder: PathBuf,
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn params(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = subject;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026 + YEARS + 10, 1, 1);
    params
}

impl Pki {
    /// The certificates of a folder; what is not there is made. `addresses` are those that the server listens on.
    pub fn open(folder: &Path, addresses: &[SocketAddr]) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let pki = Self {
            folder: folder.to_owned(),
        };
        let issuer = pki.authority()?;
        pki.certify(&issuer, "apiserver", || {
            let mut params = params("holdfast", None);
            let mut names: Vec<SanType> = Vec::new();
            for name in [
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ] {
                names.push(SanType::DnsName(name.try_into().map_err(io::Error::other)?));
            }
            let own = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
                IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
            ];
            for address in own.into_iter().chain(addresses.iter().map(SocketAddr::ip)) {
                if !address.is_unspecified() {
                    names.push(SanType::IpAddress(address));
                }
            }
            params.subject_alt_names = names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            Ok(params)
        })?;
        pki.certify(&issuer, "admin", || {
            let mut params = params("kubernetes-admin", Some(MASTERS));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            Ok(params)
        })?;
        Ok(pki)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(path(&self.folder, name))
    }

    fn has(&self, name: &str) -> bool {
        path(&self.folder, name).exists()
    }

    fn authority(&self) -> io::Result<Issuer<'static, KeyPair>> {
        if self.has("ca.crt") && self.has("ca.key") {
            let key = KeyPair::from_pem(&self.read("ca.key")?).map_err(io::Error::other)?;
            return Issuer::from_ca_cert_pem(&self.read("ca.crt")?, key).map_err(io::Error::other);
        }
        let mut params = params("holdfast-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        write(
            &path(&self.folder, "ca.key"),
            &authority.key().serialize_pem(),
        )?;
        write(&path(&self.folder, "ca.crt"), &authority.pem())?;
        self.authority()
    }

    fn certify(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        name: &str,
        params: impl FnOnce() -> io::Result<CertificateParams>,
    ) -> io::Result<()> {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        if self.has(&certificate) && self.has(&key) {
            return Ok(());
        }
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = params()?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        let signed = params.signed_by(&pair, issuer).map_err(io::Error::other)?;
        write(&path(&self.folder, &key), &pair.serialize_pem())?;
        write(&path(&self.folder, &certificate), &signed.pem())
    }

    /// What the listener shakes hands with.
    pub fn secure(&self) -> io::Result<Secure> {
        Secure::new(
            self.read("apiserver.crt")?.as_bytes(),
            self.read("apiserver.key")?.as_bytes(),
            self.read("ca.crt")?.as_bytes(),
        )
    }

    /// The authority's certificate, as PEM.
    pub fn authority_certificate(&self) -> io::Result<String> {
        self.read("ca.crt")
    }

    /// What kubectl needs to reach a server at an address as the first user.
    pub fn kubeconfig(&self, server: SocketAddr) -> io::Result<String> {
        let encoded = |name: &str| self.read(name).map(|text| STANDARD.encode(text));
        let host = match server.ip() {
            ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        Ok(format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: holdfast\n  cluster:\n    server: https://{host}:{}\n    \
             certificate-authority-data: {}\ncontexts:\n- name: holdfast\n  context:\n    cluster: holdfast\n    user: \
             kubernetes-admin\ncurrent-context: holdfast\nusers:\n- name: kubernetes-admin\n  user:\n    \
             client-certificate-data: {}\n    client-key-data: {}\n",
            server.port(),
            encoded("ca.crt")?,
            encoded("admin.crt")?,
            encoded("admin.key")?,
        ))
    }

    /// Writes that file where people look for it.
    pub fn write_kubeconfig(&self, to: &Path, server: SocketAddr) -> io::Result<()> {
        write(to, &self.kubeconfig(server)?)
    }
}
